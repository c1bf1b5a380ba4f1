"""Records of a stage for the report: its epochs, and the scores of each test example."""

from __future__ import annotations

import json
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gradual.data.loader import is_borrowed
from gradual.distributed import of_all_processes
from gradual.files import write_atomically


class EpochHistory(Checkpoint):
    """Writes a JSON line per epoch: its number, seconds, learning rates, and all logged metrics.

    It is a ``Checkpoint`` because Lightning calls these after the module has logged the epoch's training scores, and
    other callbacks before.

    Args:
        path: The file; it is rewritten after each epoch, so that a resumed stage repeats no line.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._started = self._elapsed = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue the clock of a resumed epoch."""
        self._started = time.monotonic() - self._elapsed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line."""
        rates = {}
        for optimizer in trainer.optimizers:
            for index, group in enumerate(optimizer.param_groups):
                rates[str(group.get("name", index))] = float(group["lr"])
        row = {"epoch": trainer.current_epoch + 1, "seconds": round(time.monotonic() - self._started, 3), "lr": rates}
        self.rows.append(row | {name: float(value) for name, value in sorted(trainer.callback_metrics.items())})
        self._write(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the lines of a resumed stage that had no epoch left to train."""
        self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The lines so far, and the seconds since the running epoch began."""
        return {"rows": self.rows, "elapsed": time.monotonic() - self._started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.rows, self._elapsed = state_dict["rows"], state_dict.get("elapsed", 0.0)

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in self.rows))


class ExampleScores(Callback):
    """Writes the scores of each test example, for significance tests to resample.

    A ``test_step`` provides them by returning a list of records ``{"id": ..., SCORE: [numerator, denominator], ...}``.
    The score of several examples is the sum of their numerators divided by the sum of their denominators.

    Args:
        path: The file: a JSON line per example, with the records of all processes in the order of the data.
    """

    def __init__(self, path: Path):
        self.path = path
        self._batches: list[list[dict[str, Any]]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the records of an earlier test."""
        self._batches = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Keep a batch's records."""
        if not is_borrowed(trainer.test_dataloaders, batch_idx):
            self._batches.append(outputs if isinstance(outputs, list) else [])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the records of all batches."""
        dealt = zip_longest(*of_all_processes(self._batches), fillvalue=())  # processes take turns at the batches
        records = [record for in_turn in dealt for batch in in_turn for record in batch]
        if records and trainer.is_global_zero:
            write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in records))
