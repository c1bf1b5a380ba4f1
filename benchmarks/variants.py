"""Variants to compare, each in its own process, so that each has its own peak memory.

Only one of them computes at a time: the script calls them alternately, several times, and compares within a round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import nn

from gradual.nn.fast_cpu import QuickDropout, QuickLinear, change_classes


def as_torch_has_it(module: nn.Module) -> nn.Module:
    """Give the module torch's own dropout and linear layers, as in published code, and return it."""
    change_classes(module, {QuickDropout: nn.Dropout, QuickLinear: nn.Linear})
    return module


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Turn the dropout layers inside a module off, also in training."""
    probabilities = {layer: layer.p for layer in module.modules() if isinstance(layer, nn.Dropout)}
    for layer in probabilities:
        layer.p = 0.0
    yield
    for layer, probability in probabilities.items():
        layer.p = probability


class StepTimer:
    """Measures a training run from the end of its first step, and when the first step of the process has ended.

    Args:
        options: The script's options.
        started: When the process was started, by the clock that is used.
    """

    def __init__(self, options: argparse.Namespace, started: float):
        self.clock, self.started = clock(options.clock, options.device), started
        self.seconds = self.first_step = self.idle_since = 0.0

    def wait(self) -> None:
        """The process is ready; what it now waits for others does not count."""
        self.idle_since = self.clock()

    def go(self) -> None:
        """The process works again."""
        self.started += self.clock() - self.idle_since

    def start(self) -> None:
        """The first step of a run has ended."""
        now = self.clock()
        self.first_step = self.first_step or now - self.started
        self.seconds = -now

    def stop(self) -> None:
        """The run has ended."""
        self.seconds += self.clock()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every comparison of training speeds."""
    add = parser.add_argument
    add("--encoder-layers", type=int, help="keep only this many layers, from the first")
    add_round_arguments(parser)


def add_round_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a comparison is measured."""
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="number of rounds (%(default)s)")
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread on a busy machine (%(default)s)")
    add("--threads", type=int, default=torch.get_num_threads(), help="number of threads (%(default)s)")
    add("--bf16", action="store_true", help="compute in bfloat16 with autocast")


class Variant:
    """An object in its own process.

    Args:
        make: Creates the object in that process.
        arguments: The arguments of ``make``.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that a failure over there is noticed here

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method of the object, which runs in its process."""

        def call(*arguments: Any) -> Any:
            self._connection.send((name, arguments))
            return self._connection.recv()

        return call

    def close(self) -> float:
        """End the process, and return its peak memory in MB."""
        self._connection.send(None)
        peak = self._connection.recv()
        self._process.join()
        return peak


def _serve(connection: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    made = make(*arguments)
    while (request := connection.recv()) is not None:
        name, given = request
        connection.send(getattr(made, name)(*given))
    connection.send(peak_memory())


def peak_memory(device: str = "cpu") -> float:
    """The peak memory so far in MB: of the process, or of its tensors on a GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, kilobytes elsewhere


def forget_peak(device: str) -> None:
    """Measure the peak memory on a GPU anew; that of a process stays."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def clock(name: str, device: str = "cpu") -> Callable[[], float]:
    """The clock ``wall``, or ``cpu`` for the processor time of the process: for one thread on a busy machine.

    Of a GPU it tells the time when all work that was given to it is done.
    """
    read = time.process_time if name == "cpu" else time.perf_counter

    def wait_and_read() -> float:
        torch.cuda.synchronize()
        return read()

    return wait_and_read if device.startswith("cuda") else read


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median of several rounds, with minimum and maximum."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
