"""Selection of the best epoch by a smoothed validation score."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SmoothedScore(Callback):
    """Adds the mean of a validation score over the last validations as another score.

    Args:
        monitor: The score to smooth.
        window: Number of validations to average over. Before there are as many, the mean is not used for selection.

    Attributes:
        name: The name of the mean.
    """

    def __init__(self, monitor: str, window: int):
        self.monitor, self.window = monitor, window
        self.name = f"{monitor}_mean_of_{window}"
        self._last: list[float] = []

    def is_ready(self) -> bool:
        """Whether there are enough values for a full window; a mean of fewer is more often high or low by chance."""
        return len(self._last) == self.window

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the mean to the scores; this callback must come before those that read it."""
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
