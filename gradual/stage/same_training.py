"""The training that a stage of a control takes over from the stages that it copies: as many steps, planned as there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.trainer.states import TrainerFn

from gradual.data.module import MixedDomainDataModule
from gradual.runs.result import StageResult


@dataclass(frozen=True)
class SameTraining:
    """The training of one or several finished stages, for a stage that trains exactly as long.

    Attributes:
        steps_of: Optimizer steps that each of the stages took.
        planned_steps: Steps that learning-rate schedules are planned for, of which those are the first; None for no
            limit.
        validations_of: Validations that each of the stages had, to select the best weights by. During the steps of a
            stage there are at most as many, at equal distances, the last one at the end. Those of a stage of whole
            epochs are as many, unless accumulated gradients leave a number of batches that they do not divide.
        converged: Whether all of the stages had converged.
        collapses: How many attempts at the first of them had collapsed, after each of which its learning rates were
            lowered. The stage begins with those rates.
    """

    steps_of: tuple[int, ...]
    planned_steps: int | None
    validations_of: tuple[int, ...]
    converged: bool = True
    collapses: int = 0

    @classmethod
    def of(cls, results: Iterable[StageResult]) -> SameTraining:
        """The training of several stages one after the other; all of them say how many steps they took."""
        results = list(results)
        plans = [result.planned_steps for result in results]
        return cls(
            steps_of=tuple(result.steps or 0 for result in results),
            planned_steps=None if None in plans else sum(plan or 0 for plan in plans),
            # an earlier version validated as often, unless val_check_interval was set, and did not count
            validations_of=tuple(result.validations or result.epochs for result in results),
            converged=all(result.converged for result in results),
            collapses=len(results[0].collapses),
        )

    @property
    def steps(self) -> int:
        """Optimizer steps to take."""
        return sum(self.steps_of)

    def to_plain(self) -> dict[str, Any]:
        """The part that decides how a stage trains, as plain data."""
        of_one = len(self.steps_of) == 1  # written as an earlier version did, whose stages are the same
        steps: Any = self.steps if of_one else list(self.steps_of)
        validations: Any = self.validations_of[0] if of_one else list(self.validations_of)
        plain = {"steps": steps, "planned_steps": self.planned_steps, "validations": validations}
        return plain | ({"collapses": self.collapses} if self.collapses else {})

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
            "val_check_interval": self.steps,  # which ExactSteps replaces
            "check_val_every_n_epoch": None,
            "callbacks": [one for one in callbacks if not isinstance(one, EarlyStopping | Timer)],
        }

    def plan(self, trainer: Trainer, datamodule: MixedDomainDataModule) -> frozenset[int]:
        """Give the Trainer the planned number of epochs, and say when to validate.

        Both follow from the batches of an epoch: its last step may accumulate fewer of them than the others. Modules
        whose learning-rate schedules ask for the epochs have those of the plan.

        Returns:
            The numbers of batches after which there is a validation.
        """
        batches: float = len(datamodule.train_dataloader())
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * (1.0 if limit is None else limit))
        batches = max(1, batches)
        steps = math.ceil(batches / trainer.accumulate_grad_batches)
        if self.planned_steps is not None:
            trainer.fit_loop.max_epochs = math.ceil(trainer.max_steps / steps)

        def batches_of(taken: int) -> int:
            epochs, rest = divmod(taken, steps)
            return int(epochs * batches + min(batches, rest * trainer.accumulate_grad_batches))

        found: set[int] = set()
        before = 0
        for taken, validations in zip(self.steps_of, self.validations_of):
            begin, end = batches_of(before), batches_of(before + taken)
            distance = math.ceil((end - begin) / validations)
            found |= {*range(begin + distance, end, distance), end}
            before += taken
        return frozenset(found)


class ExactSteps(Callback):
    """Ends a stage after exactly the steps of the stages that it copies, and validates at the distances of theirs.

    Args:
        same: The training of those stages.
        datamodule: The data of the stage.
    """

    def __init__(self, same: SameTraining, datamodule: MixedDomainDataModule):
        self.same, self.datamodule = same, datamodule
        self._validated_after: Set[int] = frozenset()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Plan the stage."""
        if stage == TrainerFn.FITTING:
            self._validated_after = self.same.plan(trainer, self.datamodule)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if an interrupted stage had taken all of its steps."""
        self._decide_on_validation(trainer)
        self._stop(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Say whether there is a validation after this batch."""
        self._decide_on_validation(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop after the last step."""
        self._stop(trainer)

    def _decide_on_validation(self, trainer: Trainer) -> None:
        """Lightning validates after every ``val_check_batch`` batches, counted from the start of the stage."""
        batches = trainer.fit_loop.total_batch_idx + 1
        trainer.val_check_batch = 1 if batches in self._validated_after else batches + 1

    def _stop(self, trainer: Trainer) -> None:
        if trainer.global_step >= self.same.steps:
            trainer.should_stop = True
