"""What the tasks' scores share: sums over batches and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

_WITHOUT_DOUBLE = ("mps",)  # types of devices


class TaskScores(Metric):
    """Scores made of sums. Those of real numbers are in double, whatever type the module is converted to.

    On a device that has no double they are in single precision.
    """

    full_state_update = False

    def add_count(self, name: str, *size: int) -> None:
        """Add a state that counts, of a shape; it is summed over processes."""
        self.add_state(name, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def add_sum(self, name: str, *size: int) -> None:
        """Add a state that sums real numbers, of a shape; it is summed over processes."""
        self.add_state(name, _exact(torch.zeros(size)), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> nn.Module:
        sums = [name for name, start in self._defaults.items() if start.is_floating_point()]  # type: ignore[union-attr]
        super()._apply(fn, [*exclude_state, *sums])
        for name in sums:
            self._defaults[name] = _exact(self._defaults[name], self.device)  # type: ignore[arg-type]
            setattr(self, name, _exact(getattr(self, name), self.device))
        return self


def _exact(sums: Tensor, device: torch.device | None = None) -> Tensor:
    """Sums on a device, theirs if none is given, in the most exact type that it has."""
    device = device or sums.device
    return sums.to(device, torch.float32 if device.type in _WITHOUT_DOUBLE else torch.float64)
