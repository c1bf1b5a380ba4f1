"""Variants to compare, each in a process of its own, so that each has a peak of memory of its own.

Only one of them computes at a time: the script asks them in turn, several times over, and compares within a round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn

from gradual.nn.fast_cpu import QuickDropout, QuickLinear, change_classes


def as_torch_has_it(module: nn.Module) -> nn.Module:
    """The module with torch's own dropout and linear layers, as published code has them."""
    change_classes(module, {QuickDropout: nn.Dropout, QuickLinear: nn.Linear})
    return module


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every comparison of training speeds takes."""
    add = parser.add_argument
    add("--encoder-layers", type=int, help="keep the first so many layers")
    add("--rounds", type=int, default=5, help="how often the variants take turns (%(default)s)")
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread on a busy machine (%(default)s)")
    add("--threads", type=int, default=torch.get_num_threads(), help="threads that compute (%(default)s)")
    add("--bf16", action="store_true", help="all in bfloat16 under autocast")


class Variant:
    """An object in a process of its own.

    Args:
        make: Makes the object, in that process.
        arguments: What it is called with.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that its end, should it fail, is noticed here

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The object's methods, run over there."""

        def call(*arguments: Any) -> Any:
            self._connection.send((name, arguments))
            return self._connection.recv()

        return call

    def close(self) -> float:
        """End the process; its peak memory in MB."""
        self._connection.send(None)
        peak = self._connection.recv()
        self._process.join()
        return peak


def _serve(connection: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    made = make(*arguments)
    while (request := connection.recv()) is not None:
        name, given = request
        connection.send(getattr(made, name)(*given))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection.send(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes there, kilobytes elsewhere


def clock(name: str) -> Callable[[], float]:
    """``wall``, or ``cpu``: that of the process, for one thread on a machine that is busy with other things too."""
    return time.process_time if name == "cpu" else time.perf_counter


def spread(values: Sequence[float], digits: int = 1) -> str:
    """A median with the least and the greatest of several rounds."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
