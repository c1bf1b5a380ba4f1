"""Keeps the weights of a stage's best epoch, and the validation scores they had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gradual.errors import InputError


class BestCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` of the single best validation, weights only, that also remembers its scores.

    Args:
        directory: The stage's folder; the file is ``best.ckpt``.
        monitor: The validation score that decides.
        mode: ``min`` or ``max``.
        decides: Whether the score as it is decides already; until it does, the last validation stands in for the best.

    Attributes:
        scores: Every metric logged so far, as it was at the best validation.
        epoch: The epoch of the best validation, counted from 1; 0 before the first.
    """

    def __init__(self, directory: Path, monitor: str, mode: str, decides: Callable[[], bool]):
        super().__init__(
            dirpath=directory,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_weights_only=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.decides = decides
        self.scores: dict[str, float] = {}
        self.epoch = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where the validation was the best so far, and note its scores.

        Raises:
            InputError: The strategy saves each process's share of the weights alone.
        """
        before = self.best_model_score
        super().on_validation_end(trainer, pl_module)
        if self.best_model_score is not before:
            self.scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.epoch = trainer.current_epoch + 1
            if Path(self.best_model_path).is_dir():
                raise InputError(
                    f"{type(trainer.strategy).__name__} saves weights in shares, one a process: accepted is one that "
                    "saves them whole (state_dict_type: full, or save_distributed_checkpoint: false)."
                )
        if not self.decides():
            self.best_k_models, self.best_model_score = {}, None  # the next one takes its place, whatever it scores

    def state_dict(self) -> dict[str, Any]:
        """ModelCheckpoint's state and ours."""
        return {**super().state_dict(), "scores": self.scores, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        self.scores, self.epoch = state_dict["scores"], state_dict["epoch"]
        super().load_state_dict(state_dict)
