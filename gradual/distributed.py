"""This process among those of a distributed run.

``torch`` is imported only when a function needs it, since commands that do not train ask for the rank, too.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# more than 0 in the processes that follow another one of a distributed run
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


class _Expected:
    """The number of processes that there will be, for questions asked before they have started."""

    world_size = 1


def is_follower_rank() -> bool:
    """Whether another process of a distributed run leads this one; known before there is a process group."""
    return any(os.environ.get(name, "0") != "0" for name in _RANK_VARIABLES)


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes.

    Ask at the moment of use: the process group starts with the first Trainer.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, _Expected.world_size


@contextmanager
def as_one_of(world_size: int) -> Iterator[None]:
    """Divide data as among ``world_size`` processes, even before they have started."""
    before, _Expected.world_size = _Expected.world_size, world_size
    try:
        yield
    finally:
        _Expected.world_size = before


def of_all_processes(mine: Any) -> list[Any]:
    """Gather an object from each process, ordered by rank; all processes must call this together."""
    import torch.distributed as dist

    _, world_size = rank_and_world_size()
    if world_size == 1:
        return [mine]
    gathered: list[Any] = [None] * world_size
    dist.all_gather_object(gathered, mine)
    return gathered


def mean_over_processes(mine: Tensor) -> Tensor:
    """Average a tensor over all processes; all of them must call this together."""
    import torch
    import torch.distributed as dist

    _, world_size = rank_and_world_size()
    if world_size == 1:
        return mine
    total = mine.to(torch.float32, copy=True)
    dist.all_reduce(total)
    return total / world_size


@atexit.register
def _leave() -> None:
    """Destroy the process group while Python still runs: its threads would abort the process afterwards."""
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
