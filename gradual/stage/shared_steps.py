"""The steps that a stage of a control has in common with the stage that it copies, which are not taken twice.

A control that takes the steps of several stages in one begins as the first of them: the same weights, sample, batches,
dropout and learning rates. It goes on from the last checkpoint of that stage, as if it had been interrupted there, with
the same result as one that takes those steps itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.trainer.states import TrainerFn

from gradual.errors import InputError
from gradual.files import whole_file
from gradual.logging import note
from gradual.runs.checkpoint import damage, read_checkpoint
from gradual.runs.directory import StageDirectory
from gradual.runs.result import StageResult
from gradual.settings import LRScheduleConfig, OptimizerConfig, is_configured
from gradual.stage.optim import depends_on_plan
from gradual.stage.preflight import names_without_state
from gradual.stage.resume.random_state import RandomState
from gradual.stage.trainer import callbacks_of

_ENDS = ("patience", "max_epochs", "max_steps", "min_delta")  # settings of when a stage ends, which a control ignores


def trains_alike(settings: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether stages with these settings take the same steps, up to the end of the shorter one.

    A stage that makes its own optimizer may look at the number of steps that are planned, and a learning-rate schedule
    that decays does.
    """
    ours, theirs = ({name: value for name, value in each.items() if name not in _ENDS} for each in (settings, others))
    optimizer, lr_schedule = OptimizerConfig(**ours["optimizer"]), LRScheduleConfig(**ours["lr_schedule"])
    return ours == theirs and is_configured(optimizer) and not depends_on_plan(lr_schedule)


@dataclass(frozen=True)
class SharedSteps:
    """The steps of a finished stage with which another one begins.

    Attributes:
        directory: The finished stage's folder.
        result: Its result.
        processes: How many processes trained it, without which its random states are of no use.
    """

    directory: StageDirectory
    result: StageResult
    processes: int

    @classmethod
    def find(cls, directory: StageDirectory, arguments: Mapping[str, Any]) -> SharedSteps | None:
        """The steps of the stage in ``directory``; None where one that is resumed there would be another one.

        It must have ended with an epoch, and validated once in each; nothing may have state that its checkpoints lack.

        Args:
            directory: The folder of a stage that trains alike.
            arguments: The Trainer's arguments.
        """
        result, callbacks = directory.result(), callbacks_of(arguments)
        every = arguments.get("val_check_interval")
        at_ends = every is None or (isinstance(every, float) and every == 1)  # the whole number 1 is a batch
        in_whole_epochs = at_ends and arguments.get("check_val_every_n_epoch", 1) == 1
        if result is None or result.collapses or result.ended_by not in ("patience", "max_epochs"):
            return None
        if not in_whole_epochs or result.validations != result.epochs or names_without_state(callbacks):
            return None
        if any(isinstance(callback, EarlyStopping | Timer) for callback in callbacks):  # which end no control
            return None
        if damage(directory.best):
            return None
        try:
            states = read_checkpoint(directory.last)["callbacks"]
        except InputError:  # it is missing, damaged, or a folder of shares
            return None
        of_processes = states.get(RandomState.__qualname__, {}).get("processes", [])
        return cls(directory, result, len(of_processes))


class BeginWithSharedSteps(Callback):
    """Gives a stage the best weights so far before it goes on from another one's last checkpoint.

    Args:
        shared: The steps that it does not take itself.
        best: The file for the weights.
        title: The stage, as messages name it.
        copied: The other stage, as messages name it.
    """

    def __init__(self, shared: SharedSteps, best: Path, title: str, copied: str):
        self.shared, self.best, self.title, self.copied = shared, best, title, copied

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the weights, before Lightning reads the checkpoint."""
        if stage != TrainerFn.FITTING:
            return
        if trainer.is_global_zero:
            with whole_file(self.best) as temporary:
                shutil.copyfile(self.shared.directory.best, temporary)
        trainer.strategy.barrier()
        note("%s begins with the %d steps of %s.", self.title, self.shared.result.steps, self.copied)
