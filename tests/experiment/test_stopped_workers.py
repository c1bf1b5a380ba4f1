"""A comparison with several workers that is told to stop ends, whichever of them train."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import stopped_workers


@pytest.mark.slow
def test_a_worker_that_trains_ends_beside_one_that_waited_for_a_stage(tmp_path):
    # the one that waits holds the lock of the queue of stages, and keeps it when it is ended
    script = Path(stopped_workers.__file__)
    command = [sys.executable, str(script), str(tmp_path)]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = started.communicate(timeout=120)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
    assert output.splitlines()[-1:] == ["ended"], errors
    assert (tmp_path / "saved").exists()
