"""The checkpoint that an interrupted stage goes on from, in the middle of an epoch too."""

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
from gradual.stage.interruption import Interrupted

_DUE, _REQUEUE, _STOP = 1, 2, 3  # reasons to save; a signal to stop counts on from the last

_EVERY = 8  # steps after which several processes ask each other, which waits for their devices

# Lightning's own sign for "inside a validation", upon which a resumed epoch begins the validation anew
_NOT_VALIDATED = {
    "total": {"ready": 1, "started": 1, "processed": 0, "completed": 0},
    "current": {"ready": 0, "started": 0, "processed": 0, "completed": 0},
    "is_last_batch": False,
}


class LastCheckpoint(Checkpoint):
    """Saves all that training needs to go on: after each epoch, every so many minutes in it, and when told to stop.

    In an epoch it saves only between two steps: not where gradients are accumulated, which no checkpoint holds, nor
    before a validation, which a resumed epoch would leave out. Told to stop inside a validation, a single process saves
    what was before it and leaves; several finish it first, since they do not stand at the same batch.

    Under SLURM's auto-requeue, the requeue signal is acted on between two steps too: a checkpoint of the middle of one
    would not continue to the same weights.

    Args:
        path: The file.
        minutes: Time after which another one is due.
    """

    def __init__(self, path: Path, minutes: float):
        self.path, self.seconds = path, 60 * minutes
        self._saved = 0.0
        self._in_validation = False
        self._requeue: Callable[[], None] | None = None
        self._told_to_requeue = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the place in the data, start the clock, and see to it that signals wait for a moment to save."""
        validation = trainer.fit_loop.epoch_loop.val_loop
        if validation.restarted_mid_evaluation:
            validation.batch_progress.reset()
        # Lightning has forgotten the loader's place where the optimizer asked how many steps there will be
        trainer.fit_loop._load_combined_loader_states()
        self._saved = time.monotonic()
        interruption.defer(True)
        self._take_over_requeue(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Save where it is due or asked for, and training can go on from here."""
        if (trainer.world_size > 1 and trainer.global_step % _EVERY) or not _can_go_on_from_here(trainer):
            return
        due = trainer.is_global_zero and time.monotonic() - self._saved >= self.seconds
        reason = _largest(trainer, self._told() or (_DUE if due else 0))
        if reason:
            self._save(trainer)
            self._act(trainer, reason)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Where told to stop, save what was before the validation, and leave."""
        reason = self._told()
        if reason and not trainer.sanity_checking and trainer.world_size == 1 and trainer.state.fn == "fit":
            self._in_validation = True
            self._save(trainer)
            self._act(trainer, reason)
            self._in_validation = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the whole epoch."""
        self._save(trainer)
        self._act(trainer, _largest(trainer, self._told()))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a signal stops at once."""
        interruption.defer(False)
        if number := interruption.requested():
            raise Interrupted(number)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same."""
        interruption.defer(False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make a checkpoint inside a validation one of the moment before it."""
        if self._in_validation:
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = _NOT_VALIDATED

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()

    def _told(self) -> int:
        """What a signal asks for; 0 for nothing."""
        number = interruption.requested()
        return _STOP + number if number else _REQUEUE if self._told_to_requeue else 0

    def _act(self, trainer: Trainer, reason: int) -> None:
        """Do what was waiting for the checkpoint."""
        if reason == _REQUEUE and self._requeue is not None:
            self._told_to_requeue = False
            self._requeue()
        elif reason > _STOP:
            where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
            raise Interrupted(reason - _STOP, f"{self.path.parent} is saved at {where}. ")

    def _take_over_requeue(self, trainer: Trainer) -> None:
        """Call Lightning's handler of the requeue signal between two steps, and not in the middle of one."""
        environment = trainer._accelerator_connector.cluster_environment
        if not (interruption.is_active() and isinstance(environment, SLURMEnvironment) and environment.auto_requeue):
            return
        number = environment.requeue_signal or signal.SIGUSR1
        handler = signal.getsignal(number)
        if callable(handler):
            self._requeue = lambda: handler(number, None)
            signal.signal(number, lambda *_: setattr(self, "_told_to_requeue", True))


def _can_go_on_from_here(trainer: Trainer) -> bool:
    epoch, data = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert data is not None
    return not (
        trainer.should_stop
        or epoch._should_accumulate()
        or epoch._num_ready_batches_reached()
        or epoch._is_training_done
        or epoch._should_check_val_fx(data)
    )


def _largest(trainer: Trainer, reason: int) -> int:
    """The largest of all processes' reasons: they save together or not at all."""
    if trainer.world_size == 1:
        return reason
    largest = torch.tensor(reason, device=trainer.strategy.root_device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)
