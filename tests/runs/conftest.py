"""A finished run, and copies of it to go on with."""

import shutil

import pytest
from identified_runs import fit


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two stages; for reading alone."""
    root = tmp_path_factory.mktemp("finished")
    fit(root)
    return root


@pytest.fixture
def done(finished, tmp_path):
    """A copy of it to go on with."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path
