"""Ends a stage when its validation score no longer improves, and says what ended it."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from gradual.checks import did_you_mean
from gradual.errors import InputError
from gradual.runs.result import StageResult

_NOT_STOPPED = EarlyStoppingReason.NOT_STOPPED
_ENOUGH = {EarlyStoppingReason.PATIENCE_EXHAUSTED, EarlyStoppingReason.STOPPING_THRESHOLD}


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
        """Stop at once where the restored state says that the stage had ended, by the user's early stopping, too."""
        stopped = (stopper.stopping_reason is not _NOT_STOPPED for stopper in trainer.early_stopping_callbacks)
        if _ran_out(self) or any(stopped):
            trainer.should_stop = True


def ended_by(trainer: Trainer) -> tuple[bool, str]:
    """Whether a stage that a Trainer has trained converged, and what ended it, as ``StageResult`` has both.

    Early stopping of the user's counts as patience, too. A stage that converges in its last permitted epoch has
    converged; one whose monitor is no longer finite has not.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    stoppers = trainer.early_stopping_callbacks
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    # a process whose own scores ran out of patience ends all of them
    if trainer.strategy.reduce_boolean_decision(any(map(_ran_out, stoppers)), all=False):
        return True, "patience"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs_trained(trainer):
        return False, "max_epochs"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return False, "max_steps"
    if any(left is not None and left <= 0 for left in (timer.time_remaining() for timer in timers)):
        return False, "max_time"
    reasons = {stopper.stopping_reason for stopper in stoppers}
    if _ENOUGH & reasons:  # with min_epochs it goes on for a while, and may improve
        return True, "patience"
    return EarlyStoppingReason.NON_FINITE_METRIC not in reasons, ""


def epochs_trained(trainer: Trainer) -> int:
    """Epochs of a fit, those before it was resumed included; where none was left, ``current_epoch`` lacks the last."""
    return trainer.fit_loop.epoch_progress.current.ready


def cut_off(stage: str, result: StageResult, patience: int) -> str:
    """What to say of a stage that has not converged."""
    if not result.ended_by:
        return f"{stage} ended because a monitored score was no longer finite: it has not converged."
    return (
        f"{stage} was ended by {result.ended_by} before it converged: its best epoch was {result.best_epoch} of "
        f"{result.epochs}, and its patience of {patience} validations had not run out. Raise {result.ended_by}, or "
        "lower patience."
    )


def _ran_out(stopper: EarlyStopping) -> bool:
    """Whether validations without improvement are enough now; the count is restored, and an improvement resets it."""
    return stopper.wait_count >= max(1, stopper.patience)
