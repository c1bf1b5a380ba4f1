"""How long a stage trains."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class TrainingClock(Callback):
    """Measures a stage's training time, interruptions left out.

    No ``Timer`` of Lightning's: where there is one among the callbacks, the Trainer's ``max_time`` does nothing.
    """

    def __init__(self) -> None:
        self._before = 0.0  # in the parts of the stage that were interrupted
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Training time so far, validation included."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self._began = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        self._before, self._began = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        """The time so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self._before = state_dict["seconds"]
