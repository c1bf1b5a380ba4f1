"""The checkpoint from which an interrupted stage resumes, in the middle of an epoch if need be."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gradual.stage import interruption
from gradual.stage.callbacks.convergence import limit_reached
from gradual.stage.interruption import Interrupted
from gradual.stage.resume.lightning_internals import (
    cluster_environment,
    finish_restarted_epoch,
    is_between_steps,
    mark_validation_as_pending,
    restart_validation,
    restore_loader_position,
)

_DUE, _REQUEUE, _STOP = 1, 2, 3  # reasons to save; a signal to stop is added to the last one

_EVERY = 8  # steps between two exchanges of several processes, each of which waits for the devices

_SMALL = 16e6  # bytes of a checkpoint that is written after every epoch, however short
_PAUSE = 20  # training between two larger ones, in multiples of the time that writing one takes


class LastCheckpoint(Checkpoint):
    """Saves everything that training needs to resume: after epochs, periodically within one, and when told to stop.

    With little data an epoch may take less time than writing the weights and the optimizer's state. After an epoch that
    ended soon after the last checkpoint nothing is saved, unless it is the stage's last one: a stage spends about a
    twentieth of its time on checkpoints at most.

    Within an epoch it saves only between two steps: not while gradients are being accumulated, since checkpoints do not
    hold gradients, and not just before a validation, which the resumed epoch would skip. A module that optimizes by
    itself may accumulate them, too, so there it saves only after a batch that has taken a step. When told to stop
    during a validation, a single process saves the state from before the validation and exits. Several processes finish
    the validation first, since they are not at the same batch, and so does one that has accumulated gradients. The last
    validation of a stage is always finished: a resumed stage that has nothing left to train would not run it.

    Under SLURM's auto-requeue, the requeue signal waits for such a moment as well: a checkpoint from the middle of a
    step would not lead to the same weights.

    Args:
        path: The checkpoint file.
        minutes: Time between two checkpoints within an epoch.
    """

    def __init__(self, path: Path, minutes: float):
        self.path, self.seconds = path, 60 * minutes
        self._saved = self._cost = 0.0
        self._steps = -1  # before the last batch; none yet
        self._in_validation = False
        self._requeue: Callable[[], None] | None = None
        self._told_to_requeue = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the position in the data, start the clock, and defer signals until a checkpoint can be saved."""
        finish_restarted_epoch(trainer)
        restart_validation(trainer)
        restore_loader_position(trainer)
        self._saved = time.monotonic()
        interruption.defer(True)
        self._take_over_requeue(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the steps so far."""
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Save if a checkpoint is due or requested and training can resume from here."""
        if trainer.world_size > 1 and trainer.global_step % _EVERY:
            return
        if trainer.should_stop or not is_between_steps(trainer):
            return
        if not pl_module.automatic_optimization and not self._has_stepped(trainer):
            return
        due = trainer.is_global_zero and time.monotonic() - self._saved >= self.seconds
        reason = _largest(trainer, self._requested() or (_DUE if due else 0))
        if reason:
            self._save(trainer)
            self._act(trainer, reason)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """When told to stop, save the state from before the validation and exit."""
        reason = self._requested()
        if not reason or trainer.sanity_checking or trainer.world_size > 1 or trainer.state.fn != "fit":
            return
        if not _is_last(trainer) and self._has_stepped(trainer):
            self._in_validation = True
            self._save(trainer)
            self._act(trainer, reason)
            self._in_validation = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of the epoch, if training has gone on long enough since the last time."""
        due = _is_last(trainer) or time.monotonic() - self._saved >= _PAUSE * self._cost
        reason = _largest(trainer, self._requested() or (_DUE if trainer.is_global_zero and due else 0))
        if reason:
            self._save(trainer)
            self._act(trainer, reason)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop deferring signals.

        Raises:
            Interrupted: A signal has been deferred until now.
        """
        interruption.defer(False)
        if number := interruption.requested():
            raise Interrupted(number)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop deferring signals."""
        interruption.defer(False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Date a checkpoint that is saved during a validation back to the start of the validation."""
        if self._in_validation:
            mark_validation_as_pending(checkpoint)

    def _save(self, trainer: Trainer) -> None:
        began = time.monotonic()
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()
        if trainer.is_global_zero:
            self._cost = self._saved - began if self.path.stat().st_size > _SMALL else 0.0

    def _has_stepped(self, trainer: Trainer) -> bool:
        """Whether the last batch has taken a step, so that no gradients are left of it."""
        return trainer.global_step != self._steps

    def _requested(self) -> int:
        """The reason to save that a signal has given; 0 for none."""
        number = interruption.requested()
        return _STOP + number if number else _REQUEUE if self._told_to_requeue else 0

    def _act(self, trainer: Trainer, reason: int) -> None:
        """Do what had to wait for the checkpoint."""
        if reason == _REQUEUE and self._requeue is not None:
            self._told_to_requeue = False
            self._requeue()
        elif reason > _STOP:
            where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
            raise Interrupted(reason - _STOP, f"{self.path.parent} is saved at {where}. ")

    def _take_over_requeue(self, trainer: Trainer) -> None:
        """Call Lightning's handler of the requeue signal between two steps rather than in the middle of one."""
        environment = cluster_environment(trainer)
        if not (interruption.is_active() and isinstance(environment, SLURMEnvironment) and environment.auto_requeue):
            return
        number = environment.requeue_signal or signal.SIGUSR1
        handler = signal.getsignal(number)
        if callable(handler):
            self._requeue = lambda: handler(number, None)
            signal.signal(number, lambda *_: setattr(self, "_told_to_requeue", True))


def _is_last(trainer: Trainer) -> bool:
    """Whether nothing is left to train."""
    return trainer.should_stop or limit_reached(trainer) is not None


def _largest(trainer: Trainer, reason: int) -> int:
    """The largest reason of all processes, which save together or not at all."""
    if trainer.world_size == 1:
        return reason
    largest = torch.tensor(reason, device=trainer.strategy.root_device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)
