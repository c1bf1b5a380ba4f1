"""Predictions as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from gradual.data.loader import is_borrowed
from gradual.files import whole_file


class PredictionWriter(BasePredictionWriter):
    """Writes the records that ``predict_step`` returns as a list, one JSON object per line, in the order of the data.

    While predicting, each process writes its own file, with one line per batch; in the end they are merged.

    Args:
        path: The file; it is overwritten.
    """

    def __init__(self, path: Path):
        super().__init__(write_interval="batch")
        self.path = path

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part(trainer.global_rank).open("w", encoding="utf-8")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write a batch's records."""
        if not is_borrowed(trainer.predict_dataloaders, batch_idx):
            self._file.write(json.dumps(prediction, ensure_ascii=False) + "\n")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the files of all processes, and print where the result is."""
        self._file.close()
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        parts = [self._part(rank) for rank in range(trainer.world_size)]
        with ExitStack() as files, whole_file(self.path) as whole, whole.open("w", encoding="utf-8") as file:
            for in_turn in zip_longest(*(files.enter_context(part.open(encoding="utf-8")) for part in parts)):
                for line in filter(None, in_turn):  # processes take turns at the batches
                    file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in json.loads(line))
        for part in parts:
            part.unlink()
        print(f"Predictions: {self.path}")

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{rank}.tmp")
