"""This process among those of a distributed run."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Expected:
    """How many processes there will be, where that is asked before they are there."""

    world_size = 1


def rank_and_world_size() -> tuple[int, int]:
    """Which process this is, and of how many; asked at use, since the process group comes with the first Trainer."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, _Expected.world_size


@contextmanager
def as_one_of(world_size: int) -> Iterator[None]:
    """While it is open, data is divided as among so many processes, even before they are there."""
    _Expected.world_size = world_size
    try:
        yield
    finally:
        _Expected.world_size = 1


def of_all_processes(mine: Any) -> list[Any]:
    """What each process has, by rank; all processes must call it together."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return [mine]
    gathered: list[Any] = [None] * world_size
    dist.all_gather_object(gathered, mine)
    return gathered


def mean_over_processes(mine: Tensor) -> Tensor:
    """The mean of a tensor that each process has; all processes must call it together."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return mine
    total = mine.to(torch.float32, copy=True)
    dist.all_reduce(total)
    return total / world_size


@atexit.register
def _leave() -> None:
    """End the process group while Python still runs: the threads of one that outlives it abort the process."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
