"""Commands run as from a shell, whatever the tests were started with; runs that are exported."""

import sys

import pytest
from exported_runs import Exported, Trained


@pytest.fixture(autouse=True)
def _command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradual"])


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("exported"), trained)
