"""Two processes of a distributed run that are forked from this one, which has imported all they need."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from interrupted_runs import begin_process, end_process
from lightning.pytorch.utilities import rank_zero_only

TESTS = Path(__file__).parent


def environment(**more: str) -> dict[str, str]:
    """The variables of a new process."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "LOCAL_", "RANK"))}
    return ours | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"} | more


def in_two_processes(work: Callable[[], None], folder: Path) -> None:
    """Do ``work`` in two processes that are told as by torchrun; their output goes to a file in ``folder``.

    Importing takes most of the time of processes that are started anew.
    """
    children = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in (0, 1):
        told = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        told |= {"GROUP_WORLD_SIZE": 1, "TORCHELASTIC_RUN_ID": "forked"}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

        def ranked(told=told, rank=rank):
            os.environ.clear()
            os.environ.update(environment(**{name: str(value) for name, value in told.items()}))
            output = (folder / "output.txt").open("a", buffering=1)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdout = sys.stderr = output
            sys.argv = ["two_processes.py"]
            rank_zero_only.rank = rank  # which Lightning reads from the environment when it is imported
            try:
                work()
            finally:
                torch.distributed.destroy_process_group()

        children.append(begin_process(ranked))
    assert [end_process(child) for child in children] == [0, 0], (folder / "output.txt").read_text()[-3000:]
