"""The base class of the tasks' metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

_WITHOUT_DOUBLE = ("mps",)  # types of devices


class TaskScores(Metric):
    """A metric computed from sums over examples.

    Counts are integers. Sums of real numbers are kept in double precision even when the module around the metric is
    converted to another type; in single precision on devices that have no double.
    """

    full_state_update = False

    def add_count(self, name: str, *size: int) -> None:
        """Add an integer state of the given shape, summed over processes."""
        self.add_state(name, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def add_sum(self, name: str, *size: int) -> None:
        """Add a real-valued state of the given shape, summed over processes."""
        self.add_state(name, _exact(torch.zeros(size)), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> nn.Module:
        sums = [
            name for name, start in self._defaults.items() if isinstance(start, Tensor) and start.is_floating_point()
        ]
        super()._apply(fn, [*exclude_state, *sums])
        for name in sums:
            self._defaults[name] = _exact(self._defaults[name], self.device)  # type: ignore[arg-type]
            setattr(self, name, _exact(getattr(self, name), self.device))
        return self


def _exact(sums: Tensor, device: torch.device | None = None) -> Tensor:
    """Convert sums to the most precise type of ``device``, which defaults to their own, and move them there."""
    device = device or sums.device
    return sums.to(device, torch.float32 if device.type in _WITHOUT_DOUBLE else torch.float64)


class SourceLosses(TaskScores):
    """The mean training loss of the in-domain data and of each source of the pool, by name.

    Args:
        names: The names, in the order of the sources' numbers.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self.names = tuple(names)
        self.add_sum("sums", len(names))
        self.add_count("counts", len(names))

    def update(self, sums: Tensor, counts: Tensor, source: Tensor) -> None:
        """Add a batch of ``n`` examples.

        Args:
            sums: The sum of the losses in each example, shape ``(n,)``.
            counts: The number of these losses, shape ``(n,)``.
            source: The number of each example's source, shape ``(n,)``.
        """
        self.sums.index_add_(0, source, sums.detach().to(self.sums.dtype))
        self.counts.index_add_(0, source, counts.to(self.counts.dtype))

    def compute(self) -> dict[str, Tensor]:
        """Return the mean loss of each source that had examples."""
        found = self.counts.tolist()
        return {name: self.sums[at] / found[at] for at, name in enumerate(self.names) if found[at]}


def sums_of(values: Tensor, owner: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Sum values by owner.

    Args:
        values: Shape ``(k,)``.
        owner: The owner of each, shape ``(k,)``.
        number: The number of owners.

    Returns:
        The sum and the number of each owner's values, shape ``(number,)`` each.
    """
    sums = values.new_zeros(number).index_add_(0, owner, values)
    return sums, torch.bincount(owner, minlength=number)
