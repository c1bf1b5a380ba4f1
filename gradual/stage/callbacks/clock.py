"""The training time of a stage."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class TrainingClock(Callback):
    """Measures a stage's training time, excluding interruptions.

    Lightning's ``Timer`` cannot be used: if the callbacks contain one, the Trainer ignores ``max_time``.
    """

    def __init__(self) -> None:
        self._before = 0.0  # before the last interruption
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Training time so far, including validation."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._before, self._began = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        """The time so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the time."""
        self._before = state_dict["seconds"]
