"""Selection by a smoothed validation score."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SmoothedScore(Callback):
    """Offers the mean of a validation score's last values as a score of its own.

    Args:
        monitor: The score to smooth.
        window: How many validations the mean is over; fewer at the start of a stage, where it decides nothing yet.

    Attributes:
        name: What the mean is called.
    """

    def __init__(self, monitor: str, window: int):
        self.monitor, self.window = monitor, window
        self.name = f"{monitor}_mean_of_{window}"
        self._last: list[float] = []

    def decides(self) -> bool:
        """Whether the mean is over a whole window; one of fewer values is high or low by luck more easily."""
        return len(self._last) == self.window

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the mean to the scores; this callback stands before those that look at it."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        self._last = [*self._last, float(trainer.callback_metrics[self.monitor])][-self.window :]
        trainer.callback_metrics[self.name] = torch.tensor(sum(self._last) / len(self._last))

    def state_dict(self) -> dict[str, Any]:
        """The last values."""
        return {"last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._last = state_dict["last"]
