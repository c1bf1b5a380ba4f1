"""One stage: one ``Trainer.fit`` to convergence, its best weights kept, its scores measured."""

from __future__ import annotations

import copy
import logging
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden

from gradual.data.module import MixedDomainDataModule
from gradual.data.order import derive_seed
from gradual.errors import InputError
from gradual.overrides import merge
from gradual.runs.checkpoint import WholeCheckpointIO, check_plain
from gradual.runs.directory import StageDirectory
from gradual.runs.fingerprint import digest_of_test_data
from gradual.runs.recovery import resume_point
from gradual.runs.result import StageResult
from gradual.schedule import Stage
from gradual.score_names import without_split
from gradual.settings import MAX_EPOCHS, TrainSettings, is_configured
from gradual.stage.callbacks.best_checkpoint import BestCheckpoint
from gradual.stage.callbacks.clock import TrainingClock
from gradual.stage.callbacks.collapse import Collapse, CollapseGuard, LossWatch, ScoreWatch, advice, describe
from gradual.stage.callbacks.convergence import Convergence, cut_off, ended_by, epochs_trained
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics
from gradual.stage.callbacks.ema import EMAWeights
from gradual.stage.callbacks.history import EpochHistory, ExampleScores
from gradual.stage.callbacks.progress import StageProgress
from gradual.stage.callbacks.reported_scores import ReportedScores
from gradual.stage.callbacks.smoothing import SmoothedScore
from gradual.stage.callbacks.training_modes import TrainingModes
from gradual.stage.callbacks.trial_checkpoint import TrialCheckpoint
from gradual.stage.callbacks.weights import LoadWeights, is_sharded, load_weights
from gradual.stage.loggers import finish_runs, stage_loggers
from gradual.stage.optim import build_lr_scheduler, build_optimizer, parameter_groups, scale_learning_rates
from gradual.stage.preflight import (
    Check,
    callbacks_of,
    check_callbacks,
    lightning_refusals,
    names_without_state,
    stage_title,
)
from gradual.stage.requirements import check_requirements
from gradual.stage.resume.last_checkpoint import LastCheckpoint
from gradual.stage.resume.lightning_internals import forks_or_spawns
from gradual.stage.resume.logged_values import LoggedValues
from gradual.stage.resume.random_state import RandomState
from gradual.stage.resume.trainable import Trainable

_log = logging.getLogger(__name__)

TrainerArguments = Callable[[], dict[str, Any]]
"""Gives the arguments of a stage's Trainer, with callbacks and loggers made anew at each call."""


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
        trainer_arguments: The arguments of its Trainer.
        settings: All that it trains with, as plain data to write down.
        label: What its lines of progress begin with.
        reported: Looks whether the scores that a report is to show are logged; None where all is well known.
        later: The stages after it, whose optimizers are checked where this one's is made, before it trains.
    """

    model: LightningModule
    datamodule: MixedDomainDataModule
    stage: Stage
    directory: StageDirectory
    start: Path | None
    defaults: TrainSettings
    trainer_arguments: TrainerArguments
    settings: Mapping[str, Any]
    label: str = ""
    reported: ReportedScores | None = None
    later: Sequence[Stage] = ()

    def run(self) -> StageResult:
        """Train the data module's current stage to convergence and measure its scores.

        Where it collapses, it starts again with lower learning rates, as ``defaults.collapse`` says.

        Returns:
            The result, also written to ``directory``.

        Raises:
            InputError: It collapsed in every attempt.
        """
        try:
            while True:
                result = _attempt(self)
                if result is not None:
                    return result
        finally:  # they would keep the Trainer, and with it the optimizer's state, until the next stage or for ever
            self.model.trainer = self.datamodule.trainer = None


def check_stages(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    stages: Mapping[int, Stage],
    defaults: TrainSettings,
    trainer_arguments: TrainerArguments,
    titles: Mapping[int, str] | None = None,
    has_layers: bool | None = None,
) -> None:
    """Check stages of the data module's schedule against Lightning's rules, before any of them trains.

    Args:
        model: The model; it is not changed.
        datamodule: The data, set up; its stage stays the current one.
        stages: The stages, by their places in the schedule.
        defaults: What holds where a stage says nothing.
        trainer_arguments: The arguments of a stage's Trainer.
        titles: What stages are called, where not by their places.
        has_layers: As ``Check.has_layers``.

    Raises:
        InputError: One of them could not be trained; the message names it.
    """
    check_requirements(model, datamodule, defaults.monitor)
    current = datamodule.stage
    check = Check(model, datamodule, has_layers)
    nowhere = StageDirectory(Path())
    try:
        for k, stage in stages.items():
            arguments = trainer_arguments()  # anew: a strategy that one Trainer has had is no other's
            check_callbacks(callbacks_of(arguments))
            trainer = stage_trainer(model, stage, nowhere, [], {**arguments, "callbacks": [], "logger": False})
            check.stage(k, trainer, _stage_optimizer(model, stage, defaults), (titles or {}).get(k, ""))
    finally:
        model.trainer = datamodule.trainer = None
    datamodule.set_stage(current)


def _attempt(training: StageTraining) -> StageResult | None:
    """Train a stage as ``StageTraining.run`` says; None where it collapsed."""
    model, datamodule, stage, directory = training.model, training.datamodule, training.stage, training.directory
    start, defaults, label = training.start, training.defaults, training.label
    resume = resume_point(directory)
    collapses, guard = directory.collapses(), defaults.collapse
    scale = guard.factor ** len(collapses)
    title = f"{label}stage {datamodule.stage + 1} ({datamodule.amounts[datamodule.stage]} out-of-domain)"
    if collapses:
        if len(collapses) >= guard.attempts:
            raise InputError(advice(title, collapses, directory.path))
        rank_zero_only(_log.warning)(
            f"{title} collapsed: {describe(collapses[-1])}; attempt {len(collapses) + 1} of {guard.attempts} goes back "
            f"to its starting weights, with learning rates times {scale:g}."
        )
    rank_zero_only(directory.begin)(training.settings, datamodule.sample_ids())
    amounts = datamodule.amounts[: datamodule.stage + 1]
    seed_everything(derive_seed(defaults.seed, "stage", *amounts), verbose=False)
    steadier: list[Callback] = []
    monitor: str = defaults.monitor
    is_ready: Callable[[], bool] = _always
    if defaults.weight_averaging is not None:
        steadier.append(EMAWeights(defaults.weight_averaging))
    if defaults.smoothing is not None:
        smoothed = SmoothedScore(monitor, defaults.smoothing)
        steadier.append(smoothed)
        monitor, is_ready = smoothed.name, smoothed.is_ready
    best = BestCheckpoint(directory.path, monitor, defaults.mode, is_ready)
    clock = TrainingClock()
    patience = defaults.patience if stage.patience is None else stage.patience
    callbacks: list[Callback] = [
        DistributedMetrics(),
        TrainingModes(),
        *steadier,
        Convergence(monitor, defaults.mode, patience, defaults.min_delta, is_ready),
        *([training.reported] if training.reported else []),
        ExampleScores(directory.test_examples),
        LoggedValues(),
        RandomState(),
        clock,
        StageProgress(label, len(datamodule.schedule), amounts, monitor, defaults.mode, is_ready),
        best,  # first of those that Lightning calls after the module: a module may ask the Trainer for it
        EpochHistory(directory.history),
        LastCheckpoint(directory.last, defaults.checkpoint_every),
    ]
    goes_back = start is None and bool(collapses) and directory.start.exists()
    if guard.attempts:
        keep = directory.start if start is None and resume is None and not goes_back else None
        callbacks.insert(1 + callbacks.index(best), _collapse_guard(datamodule, start, defaults, keep, collapses))
    if goes_back:
        start = directory.start
    check_plain(model)
    check_plain(datamodule)
    callbacks.insert(0, LoadWeights(start if resume is None else None, directory.best))
    callbacks += [Trainable(model), TrialCheckpoint()]
    arguments = training.trainer_arguments()
    title = stage_title(datamodule)
    if resume is not None and (anew := names_without_state(callbacks_of(arguments))):
        rank_zero_only(_log.warning)(f"{title} goes on; callbacks without a state begin anew: {', '.join(anew)}.")
    trainer = stage_trainer(model, stage, directory, callbacks, arguments)
    divided = is_sharded(trainer)
    if divided and defaults.weight_averaging is not None:
        raise InputError(f"weight_averaging needs the whole module, which {type(trainer.strategy).__name__} divides.")
    # such a strategy leaves the module in shares, from which neither the test nor the next stage could start
    module = copy.deepcopy(model) if divided else model
    try:
        optimizer = _stage_optimizer(module, _slower(stage, defaults, scale), defaults, training.later)
        with optimizer, lightning_refusals(lambda: title):
            trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    except Collapse as collapse:
        collapses.append({"step": collapse.step, "reason": collapse.reason, "lr_scale": scale})
        rank_zero_only(directory.start_again)(collapses)
        trainer.strategy.barrier()
        if start is None and not directory.start.exists():  # in a new process the model is as it was given
            raise InputError(f"{directory.start} is gone: run the same command again to start anew.") from None
        return None
    if not best.epoch:
        raise InputError(
            f"Stage {datamodule.stage + 1} ended without a validation of '{defaults.monitor}': give it an epoch."
        )
    (converged, reason), epochs = ended_by(trainer), epochs_trained(trainer)
    rank_zero_only(directory.drop_requeue_checkpoints)()
    tested: Sequence[Mapping[str, float]] = ()
    if datamodule.domains.test is not None and is_overridden("test_step", model):
        module = copy.deepcopy(model) if divided else model
        with lightning_refusals(lambda: title):
            tested = trainer.test(module, datamodule=datamodule, verbose=False)
    if not tested and not divided:  # no test data, or limit_test_batches is 0
        load_weights(model, directory.best)
    result = StageResult(
        index=datamodule.stage,
        amount=amounts[-1],
        in_domain=datamodule.in_domain_size,
        out_of_domain=amounts[-1],
        epochs=epochs,
        best_epoch=best.epoch,
        seconds=round(clock.seconds, 3),
        val=named_scores(best.scores, "val", defaults.monitor),
        test=named_scores(tested[0], "test") if tested else {},
        collapses=collapses,
        converged=converged,
        ended_by=reason,
        test_data=digest_of_test_data(datamodule),
    )
    rank_zero_only(directory.finish)(result)
    finish_runs()
    trainer.strategy.barrier()
    if not converged:
        rank_zero_only(_log.warning)(cut_off(title, result, patience))
    if training.reported:
        training.reported.finished(result)
    return result


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
    before = merge(defaults.optimizer, stage.optimizer).lr_scale
    lr_scale = scale if before is None else scale * before
    return stage if scale == 1 else replace(stage, optimizer=replace(stage.optimizer, lr_scale=lr_scale))


def stage_trainer(
    model: LightningModule,
    stage: Stage,
    directory: StageDirectory,
    callbacks: list[Callback],
    arguments: dict[str, Any],
) -> Trainer:
    """A fresh Trainer: Lightning resets neither loops nor callbacks between two fits of one.

    The first of ``callbacks`` stands before the user's: it makes the module what the stage starts from.
    """
    given = callbacks_of(arguments)
    own_progress = any(isinstance(callback, ProgressBar) for callback in given)
    if own_progress or arguments.get("enable_progress_bar") is False:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    arguments["logger"], of_loggers = stage_loggers(arguments.get("logger"), directory)
    if arguments["logger"] and not any(isinstance(callback, LearningRateMonitor) for callback in given):
        of_loggers = [LearningRateMonitor(), *of_loggers]
    callbacks = [*callbacks[:1], *of_loggers, *callbacks[1:]]
    for name in ("max_epochs", "gradient_clip_val"):
        if getattr(stage, name) is not None:
            arguments[name] = getattr(stage, name)
    if arguments.get("max_epochs") is None:
        arguments["max_epochs"] = MAX_EPOCHS
    arguments["enable_model_summary"] = arguments.get("enable_model_summary") or False
    given_plugins = arguments.get("plugins") or []
    plugins = given_plugins if isinstance(given_plugins, list) else [given_plugins]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        arguments["plugins"] = [*plugins, WholeCheckpointIO({directory.last: directory.previous}, model)]
    arguments["default_root_dir"] = str(directory.path)  # where SLURM's requeue saves and looks for what it saved
    arguments["use_distributed_sampler"] = False  # the data module divides its batches among the processes itself
    useless = {
        "fast_dev_run": bool(arguments.get("fast_dev_run")),
        "barebones": bool(arguments.get("barebones")),
        "enable_checkpointing: false": arguments.get("enable_checkpointing") is False,
        "limit_val_batches: 0": arguments.get("limit_val_batches") == 0,
    }
    for name in (name for name, is_set in useless.items() if is_set):
        raise InputError(f"With {name} no epoch is the best, to carry on from: for a quick try, use max_epochs: 1.")
    with trainer_errors():
        trainer = Trainer(**{**arguments, "callbacks": [*callbacks[:1], *given, *callbacks[1:]]})
    if forks_or_spawns(trainer):
        raise InputError(
            f"{type(trainer.strategy).__name__} starts processes that end with what they have learnt: accepted are "
            "strategies that start the program again, such as ddp, and in a notebook a single device."
        )
    return trainer


@contextmanager
def trainer_errors() -> Iterator[None]:
    """While it is open, what a Trainer is not made for (a device that is not there) is said in a sentence."""
    try:
        yield
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"The Trainer cannot be made: {' '.join(str(error).split())}") from error


@contextmanager
def _stage_optimizer(
    model: LightningModule, stage: Stage, defaults: TrainSettings, later: Sequence[Stage] = ()
) -> Iterator[None]:
    """While it is open, ``model.configure_optimizers`` is the stage's; it looks at those of ``later`` stages, too."""
    optimizer = merge(defaults.optimizer, stage.optimizer)
    lr_schedule = merge(defaults.lr_schedule, stage.lr_schedule)
    own = model.configure_optimizers
    patched = "configure_optimizers" in vars(model)  # as LightningCLI does it

    def check_later(module: LightningModule) -> None:
        for config in (merge(defaults.optimizer, stage.optimizer) for stage in later):
            if is_configured(config):
                parameter_groups(module, config)

    def configured(module: LightningModule) -> Any:
        check_later(module)
        built = build_optimizer(module, optimizer)
        scheduler = build_lr_scheduler(built, lr_schedule, module.trainer.estimated_stepping_batches)
        return {"optimizer": built, **({"lr_scheduler": scheduler} if scheduler else {})}

    def scaled(module: LightningModule) -> Any:
        check_later(module)
        return scale_learning_rates(own(), 1.0 if optimizer.lr_scale is None else optimizer.lr_scale)

    if is_configured(optimizer):
        replacement: Callable[[LightningModule], Any] = configured
    elif is_overridden("configure_optimizers", model):
        replacement = scaled
    else:
        raise InputError(
            f"There is no optimizer: {type(model).__name__} has no configure_optimizers, and optimizer.lr is not set."
        )
    model.configure_optimizers = types.MethodType(replacement, model)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.configure_optimizers
        if patched:
            model.configure_optimizers = own  # type: ignore[method-assign]


def named_scores(scores: Mapping[str, Any], split: str, monitor: str = "") -> dict[str, float]:
    """The scores of one split, without the split in their names, and the monitor, whatever its name."""
    prefixes = (f"{split}/", f"{split}_")
    chosen = [name for name in scores if name == monitor] + [name for name in scores if name.startswith(prefixes)]
    return {without_split(name): float(scores[name]) for name in chosen}
