"""Ends a stage when its validation score no longer improves."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from gradual.arguments import did_you_mean
from gradual.errors import InputError


class Convergence(EarlyStopping):
    """Early stopping that stays stopped: a stage that had converged before an interruption trains no further.

    Args:
        monitor: The validation score that decides.
        mode: ``min`` or ``max``.
        patience: Validations without improvement after which the stage has converged.
        min_delta: Least change that counts as an improvement.
        decides: Whether the score as it is counts already.
    """

    def __init__(self, monitor: str, mode: str, patience: int, min_delta: float, decides: Callable[[], bool]):
        self.decides = decides
        super().__init__(
            monitor=monitor, mode=mode, patience=patience, min_delta=min_delta, check_on_train_epoch_end=False
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the validation score."""
        if not trainer.sanity_checking and self.monitor not in trainer.callback_metrics:
            names = sorted(map(str, trainer.callback_metrics))
            logged = f"logged are {', '.join(names)}" if names else "nothing is logged"
            hint = did_you_mean(self.monitor, names)
            raise InputError(f"monitor is '{self.monitor}', which validation does not log; {logged}.{hint}")
        if self.decides():
            super().on_validation_end(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the restored count says that the stage had converged."""
        if self.wait_count >= max(1, self.patience):
            trainer.should_stop = True
