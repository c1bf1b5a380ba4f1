"""Convergence: early stopping of a stage, and the reason why a stage has ended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from gradual.errors import InputError, did_you_mean
from gradual.runs.result import StageResult

_NOT_STOPPED = EarlyStoppingReason.NOT_STOPPED
_ENOUGH = {EarlyStoppingReason.PATIENCE_EXHAUSTED, EarlyStoppingReason.STOPPING_THRESHOLD}


class Convergence(EarlyStopping):
    """Early stopping that is kept across interruptions: a stage that has converged is not trained further.

    Args:
        monitor: The validation score to watch.
        mode: ``min`` or ``max``.
        patience: Number of validations without improvement after which the stage has converged; None for a stage that
            goes on in any case, unless the score is no longer finite.
        min_delta: Smallest change that counts as an improvement.
        is_ready: Whether there have been enough validations to judge by.
    """

    def __init__(self, monitor: str, mode: str, patience: int | None, min_delta: float, is_ready: Callable[[], bool]):
        self.is_ready = is_ready
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=sys.maxsize if patience is None else patience,
            min_delta=min_delta,
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count; a stage that goes on in any case goes on from where another one had converged, too."""
        own = self.patience
        super().load_state_dict({**state_dict, "patience": own})
        if own == sys.maxsize and self.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
            self.stopping_reason, self.stopped_epoch = _NOT_STOPPED, 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the validation score.

        Raises:
            InputError: It was not logged.
        """
        if not trainer.sanity_checking and self.monitor not in trainer.callback_metrics:
            names = sorted(map(str, trainer.callback_metrics))
            logged = f"the names logged are {', '.join(names)}" if names else "it logs nothing"
            hint = did_you_mean(self.monitor, names)
            raise InputError(f"monitor is '{self.monitor}', which validation does not log; {logged}.{hint}")
        if self.is_ready():
            super().on_validation_end(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if, by the restored state, this or the user's early stopping had ended the stage."""
        stopped = (stopper.stopping_reason is not _NOT_STOPPED for stopper in trainer.early_stopping_callbacks)
        if _ran_out(self) or any(stopped):
            trainer.should_stop = True


def ended_by(trainer: Trainer) -> tuple[bool, str]:
    """Whether a trained stage has converged, and what ended it, as in ``StageResult``.

    The user's own early stopping counts as patience as well. A stage that runs out of patience in its last permitted
    epoch has converged; a stage whose monitor is no longer finite has not.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    stoppers = trainer.early_stopping_callbacks
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    # if one process runs out of patience by its own scores, all of them stop
    if trainer.strategy.reduce_boolean_decision(any(map(_ran_out, stoppers)), all=False):
        return True, "patience"
    if limit := limit_reached(trainer):
        return False, limit
    if any(left is not None and left <= 0 for left in (timer.time_remaining() for timer in timers)):
        return False, "max_time"
    reasons = {stopper.stopping_reason for stopper in stoppers}
    if _ENOUGH & reasons:  # min_epochs may let it continue for a while, and improve
        return True, "patience"
    return EarlyStoppingReason.NON_FINITE_METRIC not in reasons, ""


def limit_reached(trainer: Trainer) -> str | None:
    """The limit that lets a fit train no further, ``max_epochs`` or ``max_steps``; None below both."""
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs_trained(trainer):
        return "max_epochs"
    return "max_steps" if 0 <= trainer.max_steps <= trainer.global_step else None


def epochs_trained(trainer: Trainer) -> int:
    """Epochs of a fit, including those before it was resumed; ``current_epoch`` lacks the last if none was left."""
    return trainer.fit_loop.epoch_progress.current.ready


def cut_off(stage: str, result: StageResult, patience: int) -> str:
    """The warning for a stage that has not converged."""
    if not result.ended_by:
        return f"{stage} has not converged: a monitored score was no longer finite."
    return (
        f"{stage} was ended by {result.ended_by} before it converged: its best epoch was {result.best_epoch} of "
        f"{result.epochs}, and its patience of {patience} validations was not exhausted. Raise {result.ended_by}, or "
        "lower patience."
    )


def _ran_out(stopper: EarlyStopping) -> bool:
    """Whether patience is exhausted, by the current count; it is restored on resuming, and reset by an improvement."""
    return stopper.wait_count >= max(1, stopper.patience)
