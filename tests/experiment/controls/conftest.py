"""A comparison with all controls."""

import pytest
from controlled_runs import compare

from gradual.experiment.controls import CONTROLS, ON_REQUEST


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison with all controls that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole")
    compare(root, controls=[*CONTROLS, *ON_REQUEST])
    return root
