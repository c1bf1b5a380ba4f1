"""A comparison with several workers that is told to stop ends, whichever of them train."""

import subprocess
import sys

import pytest
import stopped_workers


@pytest.mark.slow
def test_a_worker_that_trains_ends_beside_one_that_waited_for_a_stage(tmp_path):
    # the one that waits holds the lock of the queue of stages, and keeps it when it is ended
    command = [sys.executable, stopped_workers.__file__, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.stdout.splitlines()[-1:] == ["ended"], found.stderr
    assert (tmp_path / "saved").exists()
