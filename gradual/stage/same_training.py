"""The training that a stage of a control takes over from the stages that it copies: as many steps, planned as there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer

from gradual.data.module import MixedDomainDataModule
from gradual.distributed import as_one_of
from gradual.runs.result import StageResult


@dataclass(frozen=True)
class SameTraining:
    """The training of one or several finished stages, for a stage that trains exactly as long.

    Attributes:
        steps: Optimizer steps to take.
        planned_steps: Steps that learning-rate schedules are planned for, of which those are the first; None for no
            limit.
        validations: Validations to select the best weights by: at most as many, at equal distances, the last one at the
            end. Those of a single stage of whole epochs are as many, unless accumulated gradients leave a number of
            batches that they do not divide.
        converged: Whether all of the stages had converged.
        collapses: How many attempts at the first of them had collapsed, after each of which its learning rates were
            lowered. The stage begins with those rates.
    """

    steps: int
    planned_steps: int | None
    validations: int
    converged: bool = True
    collapses: int = 0

    @classmethod
    def of(cls, results: Iterable[StageResult]) -> SameTraining:
        """The training of several stages one after the other; all of them say how many steps they took."""
        results = list(results)
        plans = [result.planned_steps for result in results]
        return cls(
            steps=sum(result.steps or 0 for result in results),
            planned_steps=None if None in plans else sum(plan or 0 for plan in plans),
            # an earlier version validated as often, unless val_check_interval was set, and did not count
            validations=sum(result.validations or result.epochs for result in results),
            converged=all(result.converged for result in results),
            collapses=len(results[0].collapses),
        )

    def to_plain(self) -> dict[str, Any]:
        """The part that decides how a stage trains, as plain data."""
        plain = asdict(self)
        del plain["converged"]
        if not self.collapses:  # else an earlier version's controls would be other stages
            del plain["collapses"]
        return plain

    def trainer_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """A Trainer's arguments with nothing that could end the stage at another step.

        The callback ``ExactSteps`` ends it; ``max_steps`` is the plan, from which learning-rate schedules are made.
        """
        given = arguments.get("callbacks") or []
        callbacks = given if isinstance(given, list) else [given]
        return arguments | {
            "max_epochs": -1,
            "max_steps": -1 if self.planned_steps is None else max(self.steps, self.planned_steps),
            "max_time": None,
            "min_epochs": None,
            "min_steps": None,
            "val_check_interval": self.steps,  # until the batches of an epoch are known, see plan
            "check_val_every_n_epoch": None,
            "callbacks": [one for one in callbacks if not isinstance(one, EarlyStopping | Timer)],
        }

    def plan(self, trainer: Trainer, datamodule: MixedDomainDataModule) -> None:
        """Give the Trainer the distance between validations, and the planned number of epochs.

        Both follow from the batches of an epoch: its last step may accumulate fewer of them than the others. Modules
        whose learning-rate schedules ask for the epochs have those of the plan.
        """
        with as_one_of(trainer.num_devices * trainer.num_nodes):
            batches: float = len(datamodule.train_dataloader())
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * (1.0 if limit is None else limit))
        batches = max(1, batches)
        steps = math.ceil(batches / trainer.accumulate_grad_batches)
        epochs, rest = divmod(self.steps, steps)
        total = epochs * batches + min(batches, rest * trainer.accumulate_grad_batches)
        trainer.val_check_interval = math.ceil(total / self.validations)
        if self.planned_steps is not None:
            trainer.fit_loop.max_epochs = math.ceil(trainer.max_steps / steps)


class ExactSteps(Callback):
    """Ends a stage after exactly this many optimizer steps, with a validation.

    Args:
        steps: The number of steps.
    """

    def __init__(self, steps: int):
        self.steps = steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if an interrupted stage had taken all of its steps."""
        self._stop(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop after the last step."""
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True
