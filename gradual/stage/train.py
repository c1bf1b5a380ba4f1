"""One stage: one ``Trainer.fit`` to convergence, its best weights kept, its scores measured."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from gradual.data.module import MixedDomainDataModule
from gradual.data.order import derive_seed
from gradual.errors import InputError
from gradual.runs.checkpoint import check_plain
from gradual.runs.directory import StageDirectory
from gradual.runs.fingerprint import digest_of_test_data
from gradual.runs.recovery import resume_point
from gradual.runs.result import STEPS_OF_STRATEGY, StageResult
from gradual.schedule import Stage
from gradual.score_names import named_scores
from gradual.settings import TrainSettings
from gradual.stage.callbacks.best_checkpoint import BestCheckpoint
from gradual.stage.callbacks.clock import TrainingClock
from gradual.stage.callbacks.collapse import (
    Collapse,
    CollapsedError,
    CollapseGuard,
    LossWatch,
    ScoreWatch,
    advice,
    describe,
)
from gradual.stage.callbacks.convergence import Convergence, cut_off, ended_by, epochs_trained
from gradual.stage.callbacks.counted_steps import CountedSteps
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics
from gradual.stage.callbacks.ema import EMAWeights
from gradual.stage.callbacks.history import EpochHistory, ExampleScores
from gradual.stage.callbacks.progress import StageProgress
from gradual.stage.callbacks.reported_scores import ReportedScores
from gradual.stage.callbacks.smoothing import SmoothedScore
from gradual.stage.callbacks.training_modes import TrainingModes
from gradual.stage.callbacks.trial_checkpoint import TrialCheckpoint
from gradual.stage.callbacks.weights import LoadWeights, is_sharded, load_weights
from gradual.stage.kept_optimizer import KeptOptimizer, keeps_optimizer
from gradual.stage.loggers import finish_runs
from gradual.stage.preflight import lightning_refusals, names_without_state, stage_title
from gradual.stage.resume.last_checkpoint import LastCheckpoint
from gradual.stage.resume.logged_values import LoggedValues
from gradual.stage.resume.random_state import RandomState
from gradual.stage.resume.resumed_epoch import ResumedEpoch
from gradual.stage.resume.trainable import Trainable
from gradual.stage.same_training import ExactSteps, SameTraining
from gradual.stage.shared_steps import BeginWithSharedSteps, SharedSteps
from gradual.stage.trainer import MakeTrainerArguments, callbacks_of, stage_optimizer, stage_trainer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageTraining:
    """All that one stage is trained with.

    Attributes:
        model: The model; its weights are replaced by those of ``start``.
        datamodule: The data, with the stage already set.
        stage: What the stage overrides.
        directory: Where its checkpoints go; one that was interrupted there goes on.
        start: The parent stage's checkpoint; None starts from the model as it is.
        defaults: What holds where the stage says nothing.
        trainer_arguments: Makes the arguments of its Trainer.
        settings: All that it trains with, as plain data to write down.
        label: What its lines of progress begin with.
        strategy: The strategy that it is part of, as messages name it; empty where there is only one path.
        copied: The stage of which it has the learning rates, if it copies any, as messages name it; else empty.
        begins_as: The folder of that stage if the two train alike as long as that one does; None if they do not.
        reported: Checks that the scores to report are logged; None where nothing needs checking.
        later: The stages after it, whose optimizers are checked where this one's is made, before it trains.
        same_training: The training that a stage of a control copies; None for a stage that trains to convergence.
        passes_on_optimizer: Whether a stage after it keeps the state of its optimizer.
    """

    model: LightningModule
    datamodule: MixedDomainDataModule
    stage: Stage
    directory: StageDirectory
    start: Path | None
    defaults: TrainSettings
    trainer_arguments: MakeTrainerArguments
    settings: Mapping[str, Any]
    label: str = ""
    strategy: str = ""
    copied: str = ""
    begins_as: StageDirectory | None = None
    reported: ReportedScores | None = None
    later: Sequence[Stage] = ()
    same_training: SameTraining | None = None
    passes_on_optimizer: bool = False

    def run(self) -> StageResult:
        """Train the data module's current stage to convergence and measure its scores.

        A stage that collapses starts again with lower learning rates, as ``defaults.collapse`` says.

        Returns:
            The result, also written to ``directory``.

        Raises:
            CollapsedError: It collapsed in every attempt.
        """
        try:
            while True:
                result = _Attempt(self).run()
                if result is not None:
                    return result
        finally:  # they would keep the Trainer, and with it the optimizer's state, until the next stage or for ever
            self.model.trainer = self.datamodule.trainer = None

    @property
    def patience(self) -> int:
        """Validations without improvement after which the stage has converged."""
        return self.defaults.patience if self.stage.patience is None else self.stage.patience

    @property
    def amounts(self) -> list[int]:
        """Out-of-domain examples of the stages up to this one."""
        return self.datamodule.amounts[: self.datamodule.stage + 1]


class _Attempt:
    """One attempt to train a stage, with a Trainer of its own.

    Args:
        training: The stage.
    """

    def __init__(self, training: StageTraining):
        self.training, self.directory = training, training.directory
        self.model, self.datamodule, self.defaults = training.model, training.datamodule, training.defaults
        self.title = stage_title(self.datamodule)
        self.resume = resume_point(self.directory)
        self.collapses = self.directory.collapses()
        self.shared = self._shared_steps()
        copied = training.same_training.collapses if training.same_training else 0
        self.lr_scale = self.defaults.collapse.factor ** (copied + len(self.collapses))

    def run(self) -> StageResult | None:
        """Train and measure the stage; None where it collapsed."""
        self._prepare()
        trainer = self._make_trainer(self._callbacks())
        if self.shared is not None and self.shared.processes != trainer.world_size:
            self.shared = None
            trainer = self._make_trainer(self._callbacks())
        if not self._fit(trainer):
            return None
        return self._evaluate(trainer)

    def _shared_steps(self) -> SharedSteps | None:
        """The steps that another stage has taken for this one; None where it has begun, or begins by itself."""
        other = self.training.begins_as
        if other is None or self.resume is not None or self.collapses:
            return None
        return SharedSteps.find(other, self.training.trainer_arguments())

    @property
    def _goes_on_from(self) -> Path | None:
        """The checkpoint from which training goes on; None to start."""
        return self.resume if self.shared is None else self.shared.directory.last

    @property
    def _name(self) -> str:
        """The stage within a sentence, with what its lines of progress begin with."""
        return f"{self.training.label}{self.title[0].lower()}{self.title[1:]}"

    def _prepare(self) -> None:
        """Say what attempt this is, write down what it trains with, and set the seed.

        Raises:
            CollapsedError: There was the last attempt already.
        """
        if self.collapses:
            training, title = self.training, self._name
            title += f" of the strategy '{training.strategy}'" if training.strategy else ""
            attempts = self.defaults.collapse.attempts
            if len(self.collapses) >= attempts:
                raise CollapsedError(advice(title, self.collapses, self.directory.path, training.copied))
            rank_zero_only(_log.warning)(
                f"{title} collapsed: {describe(self.collapses[-1])}; attempt {len(self.collapses) + 1} of {attempts} "
                f"goes back to its starting weights, with learning rates times {self.lr_scale:g}."
            )
        rank_zero_only(self.directory.begin)(self.training.settings, self.datamodule.sample_ids())
        seed_everything(derive_seed(self.defaults.seed, "stage", *self.training.amounts), verbose=False)

    def _callbacks(self) -> list[Callback]:
        """The stage's own callbacks; the first one stands before the user's."""
        training, defaults, directory = self.training, self.defaults, self.directory
        same = training.same_training
        steadier: list[Callback] = []
        monitor, mode = defaults.monitor, defaults.mode
        is_ready: Callable[[], bool] = _always
        if defaults.weight_averaging is not None:
            steadier.append(EMAWeights(defaults.weight_averaging))
        if defaults.smoothing is not None:
            smoothed = SmoothedScore(monitor, defaults.smoothing)
            steadier.append(smoothed)
            monitor, is_ready = smoothed.name, smoothed.is_ready
        self.best = BestCheckpoint(directory.path, monitor, mode, is_ready, training.passes_on_optimizer)
        self.clock = TrainingClock()
        convergence = Convergence(monitor, mode, None if same else training.patience, defaults.min_delta, is_ready)
        start, guards = self._start_and_guards()
        new_adapter = None
        if training.stage.adapter == "merge":
            new_adapter = derive_seed(defaults.seed, "adapter", *training.amounts)
        return [
            LoadWeights(start if self._goes_on_from is None else None, directory.best, new_adapter),
            *self._with_shared_steps(),
            DistributedMetrics(),
            TrainingModes(self.model),
            CountedSteps(),
            *steadier,
            convergence,
            *([ExactSteps(same, self.datamodule)] if same else []),
            *([training.reported] if training.reported else []),
            ExampleScores(directory.test_examples),
            *([] if self._goes_on_from is None else [ResumedEpoch()]),
            LoggedValues(),
            RandomState(is_later=start is not None),
            self.clock,
            StageProgress(
                training.label,
                len(self.datamodule.schedule),
                training.amounts,
                monitor,
                mode,
                is_ready,
                steps=same.steps if same else None,
                stopper=None if same else convergence,
            ),
            self.best,  # first of those that Lightning calls after the module: a module may ask the Trainer for it
            *guards,
            EpochHistory(directory.history),
            LastCheckpoint(directory.last, defaults.checkpoint_every),
            Trainable(self.model),
            *self._kept_optimizer(),
            TrialCheckpoint(),
        ]

    def _with_shared_steps(self) -> list[Callback]:
        """What begins the stage with the steps of another one, if it shares some."""
        if self.shared is None:
            return []
        return [BeginWithSharedSteps(self.shared, self.directory.best, self._name, self.training.copied)]

    def _kept_optimizer(self) -> list[Callback]:
        """What begins the stage with the state of the optimizer of the one before, if it keeps that."""
        start = self.training.start
        keeps = start is not None and self._goes_on_from is None and keeps_optimizer(self.training.stage, self.defaults)
        return [KeptOptimizer(start)] if start is not None and keeps else []

    def _start_and_guards(self) -> tuple[Path | None, list[Callback]]:
        """The checkpoint to start from, and what looks out for a collapse.

        A stage without a parent keeps the weights that it starts from, to go back to them after a collapse.
        """
        start, kept = self.training.start, self.directory.start
        goes_back = start is None and bool(self.collapses) and kept.exists()
        guards: list[Callback] = []
        if self.defaults.collapse.attempts:
            keep = kept if start is None and self._goes_on_from is None and not goes_back else None
            guards.append(_collapse_guard(self.datamodule, start, self.defaults, keep, self.collapses))
        return kept if goes_back else start, guards

    def _make_trainer(self, callbacks: list[Callback]) -> Trainer:
        check_plain(self.model)
        check_plain(self.datamodule)
        arguments = self.training.trainer_arguments()
        if self.resume is not None and (anew := names_without_state(callbacks_of(arguments))):
            rank_zero_only(_log.warning)(
                f"{self.title} goes on; callbacks without a state begin anew: {', '.join(anew)}."
            )
        stage, same = self.training.stage, self.training.same_training
        trainer = stage_trainer(self.model, stage, self.directory, callbacks, arguments, same)
        if is_sharded(trainer) and self.defaults.weight_averaging is not None:
            raise InputError(
                f"weight_averaging needs the whole module, which {type(trainer.strategy).__name__} divides."
            )
        return trainer

    def _fit(self, trainer: Trainer) -> bool:
        """Train to convergence; False where the stage collapsed, which is then written down."""
        training, module = self.training, self._module_for(trainer)
        stage = _slower(training.stage, self.defaults, self.lr_scale)
        try:
            optimizer = stage_optimizer(module, stage, self.defaults, training.later)
            with optimizer, lightning_refusals(lambda: self.title):
                trainer.fit(module, datamodule=self.datamodule, ckpt_path=self._goes_on_from, weights_only=True)
        except Collapse as collapse:
            self.collapses.append({"step": collapse.step, "reason": collapse.reason, "lr_scale": self.lr_scale})
            rank_zero_only(self.directory.start_again)(self.collapses)
            trainer.strategy.barrier()
            if training.start is None and not self.directory.start.exists():  # a new process has the model as given
                raise InputError(
                    f"{self._name} collapsed, and the weights that it started from are gone: run the same command "
                    "again, with which it starts anew at lower learning rates."
                ) from None
            return False
        return True

    def _evaluate(self, trainer: Trainer) -> StageResult:
        """Test the best weights and write the result down.

        Raises:
            InputError: There was no validation, so that no weights are the best.
        """
        datamodule, monitor = self.datamodule, self.defaults.monitor
        if not self.best.epoch:
            raise InputError(
                f"Stage {datamodule.stage + 1} ended without a validation of '{monitor}': give it an epoch."
            )
        (converged, reason), epochs = ended_by(trainer), epochs_trained(trainer)
        steps, planned, same = trainer.global_step, trainer.estimated_stepping_batches, self.training.same_training
        batches, loader = trainer.fit_loop.epoch_loop.total_batch_idx + 1, trainer.train_dataloader
        several = isinstance(loader, Mapping | list | tuple)  # which a data module of the user's own may return
        of_an_epoch = trainer.num_training_batches if several else len(loader)  # type: ignore[arg-type]
        finite = not same or steps == same.steps
        if same is not None:
            converged, reason = same.converged and finite, STEPS_OF_STRATEGY if finite else ""
        tested = self._test(trainer)
        amount = self.training.amounts[-1]
        result = StageResult(
            index=datamodule.stage,
            amount=amount,
            in_domain=datamodule.in_domain_size,
            out_of_domain=amount,
            epochs=epochs,
            best_epoch=self.best.epoch,
            seconds=round(self.clock.seconds, 3),
            val=named_scores(self.best.scores, "val", monitor),
            test=named_scores(tested, "test"),
            collapses=self.collapses,
            converged=converged,
            ended_by=reason,
            test_data=digest_of_test_data(datamodule),
            steps=steps,
            planned_steps=None if math.isinf(planned) else int(planned),
            validations=self.best.validations,
            examples_seen=round(batches / of_an_epoch * datamodule.examples_per_epoch),
            sources=datamodule.composition,
            tokens=datamodule.sample_tokens() if datamodule.amount_in == "tokens" else None,
        )
        rank_zero_only(self.directory.finish)(result)
        finish_runs()
        trainer.strategy.barrier()
        if not converged and not (same and finite):  # else the stages that it copies have been warned of
            rank_zero_only(_log.warning)(cut_off(self.title, result, self.training.patience))
        if self.training.reported:
            self.training.reported.finished(result)
        return result

    def _test(self, trainer: Trainer) -> Mapping[str, float]:
        """The test scores of the best weights, which the model then holds; empty where there is nothing to test."""
        rank_zero_only(self.directory.drop_requeue_checkpoints)()
        tested: Sequence[Mapping[str, float]] = ()
        if self.datamodule.domains.test is not None and is_overridden("test_step", self.model):
            with lightning_refusals(lambda: self.title):
                tested = trainer.test(self._module_for(trainer), datamodule=self.datamodule, verbose=False)
        if not tested and not is_sharded(trainer):  # no test data, or limit_test_batches is 0
            load_weights(self.model, self.directory.best)
        return tested[0] if tested else {}

    def _module_for(self, trainer: Trainer) -> LightningModule:
        """The model, or a copy for a strategy that divides it: it would leave it in shares.

        From those neither the test nor the next stage could start.
        """
        return copy.deepcopy(self.model) if is_sharded(trainer) else self.model


def _collapse_guard(
    datamodule: MixedDomainDataModule,
    start: Path | None,
    defaults: TrainSettings,
    keep: Path | None,
    collapses: list[dict[str, Any]],
) -> CollapseGuard:
    """The guard of a stage that starts from its parent's checkpoint ``start``, or keeps its weights in ``keep``."""
    parent = StageDirectory(start.parent).result() if start else None
    val = datamodule.domains.val
    examples = 0 if val is None else len(val)  # type: ignore[arg-type]
    before = parent.val if parent else {}
    scores = ScoreWatch(defaults.collapse, defaults.monitor, defaults.mode, before, examples)
    return CollapseGuard(LossWatch(defaults.collapse.ratio, scores.parent_loss), scores, keep, collapses)


def _always() -> bool:
    return True


def _slower(stage: Stage, defaults: TrainSettings, scale: float) -> Stage:
    """``stage`` with its learning rates times ``scale``."""
    before = defaults.optimizer_of(stage).lr_scale
    lr_scale = scale if before is None else scale * before
    return stage if scale == 1 else replace(stage, optimizer=replace(stage.optimizer, lr_scale=lr_scale))
