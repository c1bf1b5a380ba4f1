"""Gradual fine-tuning (Xu et al., 2021, Algorithm 1): one ``Trainer.fit`` a stage, the weights carried forward."""

from __future__ import annotations

import copy
import difflib
import inspect
import logging
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden

from gradual.callbacks.best import BestCheckpoint
from gradual.callbacks.carry import CarryWeights, divides_modules, load_weights
from gradual.callbacks.collapse import Collapse, CollapseGuard, LossWatch, ScoreWatch, advice, describe
from gradual.callbacks.convergence import Convergence
from gradual.callbacks.history import EpochHistory, ExampleScores
from gradual.callbacks.progress import StageProgress
from gradual.callbacks.random_state import RandomState
from gradual.callbacks.steadier import AveragedWeights, SmoothedScore
from gradual.callbacks.whole_scores import WholeScores
from gradual.datamodule import MixedDomainDataModule
from gradual.defaults import CollapseConfig, Defaults
from gradual.errors import InputError
from gradual.optim import build_lr_scheduler, build_optimizer, is_configured, scale_learning_rates
from gradual.results import RunResult
from gradual.runs import RunDirectory, StageDirectory, StageResult
from gradual.sampling import derive_seed
from gradual.schedule import LRScheduleConfig, OptimizerConfig, Schedule, Stage, as_plain, from_mapping, merge

_GROUPS = {"optimizer": OptimizerConfig, "lr_schedule": LRScheduleConfig, "collapse": CollapseConfig}
_log = logging.getLogger(__name__)

TrainerArguments = Callable[[], dict[str, Any]]
"""Gives the arguments of a stage's Trainer, with callbacks and loggers made anew at each call."""


def fit(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    schedule: Schedule | Iterable[float | Stage | Mapping[str, Any]],
    run_dir: str | Path,
    **settings: Any,
) -> RunResult:
    """Train ``model`` through the stages of ``schedule``, each to convergence, carrying the best weights forward.

    A stage that is done in ``run_dir`` is not trained again, and one that was interrupted goes on from its last
    checkpoint. Test scores are measured after each stage where there is test data; they are reported, never used.
    Afterwards ``model`` holds the last stage's weights; where the strategy divides modules among processes (FSDP) it is
    left as it was, and the weights are in ``result.best_checkpoint()``.

    In a distributed run every process calls this; the first one writes. ``batch_size`` is that of each process, and
    ``run_dir`` must lie on a file system that all machines share.

    Args:
        model: Any LightningModule that logs the monitor in validation.
        datamodule: Its data.
        schedule: Amounts of out-of-domain data, e.g. ``[4000, 2000, 500, 0]``; see ``gradual.Schedule``.
        run_dir: Folder of the experiment.
        **settings: The fields of ``gradual.Defaults`` (``monitor="val/loss"``, ``mode``, ``patience``, ``min_delta``,
            ``optimizer={"lr": 1e-4}``, ``lr_schedule``, ``weight_averaging``, ``smoothing``,
            ``collapse={"attempts": 3}``, ``seed``), and arguments of ``lightning.Trainer`` (``max_epochs=20``,
            ``accelerator="cpu"``).

    Returns:
        The results of all stages, also written to ``run_dir/results.json``.

    Raises:
        InputError: The schedule does not fit the pool, a pattern matches no parameter, or ``run_dir`` holds another
            experiment.
    """
    defaults, trainer = split_settings(settings)
    run = claim(run_dir, type(model), datamodule, Schedule(schedule), defaults, trainer)
    return fit_path(model, datamodule, Schedule(schedule), run, defaults, lambda: copy.deepcopy(trainer))


def split_settings(settings: Mapping[str, Any]) -> tuple[Defaults, dict[str, Any]]:
    """Keyword arguments as the defaults of the stages and the arguments of their Trainers."""
    names = {field.name for field in fields(Defaults)}
    own = {name: value for name, value in settings.items() if name in names}
    for name, cls in _GROUPS.items():
        if own.get(name) is None:
            own.pop(name, None)
        elif isinstance(own[name], Mapping):
            own[name] = from_mapping(cls, own[name], name)
    trainer = {name: value for name, value in settings.items() if name not in names}
    accepted = inspect.signature(Trainer.__init__).parameters
    for name in trainer:
        if name not in accepted:
            close = difflib.get_close_matches(name, [*names, *accepted], n=1)
            raise InputError(f"There is no setting '{name}'." + (f" Did you mean '{close[0]}'?" if close else ""))
    return Defaults(**own), trainer


def claim(
    run_dir: str | Path,
    model: type[LightningModule],
    datamodule: MixedDomainDataModule,
    schedule: Schedule,
    defaults: Defaults,
    trainer: Mapping[str, Any],
) -> RunDirectory:
    """The run directory of an experiment that Python code describes; ``RunDirectory.claim`` says what is refused."""
    run = RunDirectory(run_dir)
    identity = {
        "model": f"{model.__module__}.{model.__qualname__}",
        "data": f"{type(datamodule).__module__}.{type(datamodule).__qualname__}",
        "batch_size": datamodule.batch_size,
        "batch_tokens": datamodule.batch_tokens,
        "trainer": {name: value for name, value in trainer.items() if isinstance(value, str | int | float | None)},
    }
    experiment = identity | {"schedule": schedule.to_list()} | as_plain(defaults)
    run.claim(identity, yaml.safe_dump(experiment, sort_keys=False))  # the order of patterns means something
    return run


def fit_path(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    schedule: Schedule,
    run: RunDirectory,
    defaults: Defaults,
    trainer_arguments: TrainerArguments,
) -> RunResult:
    """Train one path of stages in a run directory that was claimed; ``fit`` says what it means."""
    datamodule.seed = defaults.seed
    datamodule.schedule = schedule
    datamodule.prepare_data()
    datamodule.setup("fit")
    parent: StageDirectory | None = None
    results = []
    for k, stage in enumerate(schedule):
        datamodule.set_stage(k)
        settings = defaults.of(stage)
        directory = run.stage(parent.path if parent else run.seed(defaults.seed), datamodule.amounts[k], settings)
        result = directory.result()
        trained = result is None
        if result is None:
            start = parent.best if parent else None
            result = train_stage(model, datamodule, stage, directory, start, defaults, trainer_arguments, settings)
        result.index, result.path = k, run.relative(directory.path)
        results.append(result)
        run_result = RunResult(results, datamodule.amounts, defaults.seed, run.root)
        rank_zero_only(run_result.save)()
        parent = directory
    if not trained and parent is not None:
        load_weights(model, parent.best)
    return run_result


def train_stage(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    stage: Stage,
    directory: StageDirectory,
    start: Path | None,
    defaults: Defaults,
    trainer_arguments: TrainerArguments,
    settings: Mapping[str, Any],
    label: str = "",
) -> StageResult:
    """Train the data module's current stage to convergence and measure its scores.

    Where it collapses, it starts again with lower learning rates, as ``defaults.collapse`` says.

    Args:
        model: The model; its weights are replaced by those of ``start``.
        datamodule: The data, with the stage already set.
        stage: What the stage overrides.
        directory: Where its checkpoints go; one that was interrupted there goes on.
        start: The parent stage's checkpoint; None starts from the model as it is.
        defaults: What holds where the stage says nothing.
        trainer_arguments: The arguments of its Trainer.
        settings: All that it trains with, as plain data to write down.
        label: What its lines of progress begin with.

    Returns:
        The result, also written to ``directory``.

    Raises:
        InputError: It collapsed in every attempt.
    """
    while True:
        result = _attempt(model, datamodule, stage, directory, start, defaults, trainer_arguments, settings, label)
        if result is not None:
            return result


def _attempt(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    stage: Stage,
    directory: StageDirectory,
    start: Path | None,
    defaults: Defaults,
    trainer_arguments: TrainerArguments,
    settings: Mapping[str, Any],
    label: str,
) -> StageResult | None:
    """Train a stage as ``train_stage`` says; None where it collapsed."""
    collapses, guard = directory.collapses(), defaults.collapse
    scale = guard.factor ** len(collapses)
    if collapses:
        title = f"{label}stage {datamodule.stage + 1} ({datamodule.amounts[datamodule.stage]} out-of-domain)"
        if len(collapses) >= guard.attempts:
            raise InputError(advice(title, collapses, directory.path))
        rank_zero_only(_log.warning)(
            f"{title} collapsed: {describe(collapses[-1])}; attempt {len(collapses) + 1} of {guard.attempts} goes back "
            f"to its starting weights, with learning rates times {scale:g}."
        )
    rank_zero_only(directory.begin)(settings, datamodule.sample_ids())
    amounts = datamodule.amounts[: datamodule.stage + 1]
    seed_everything(derive_seed(defaults.seed, "stage", *amounts), verbose=False)
    steadier: list[Callback] = []
    monitor = defaults.monitor
    if defaults.weight_averaging is not None:
        steadier.append(AveragedWeights(defaults.weight_averaging))
    if defaults.smoothing is not None:
        smoothed = SmoothedScore(monitor, defaults.smoothing)
        steadier.append(smoothed)
        monitor = smoothed.name
    best = BestCheckpoint(directory.path, monitor, defaults.mode)
    timer = Timer()
    patience = defaults.patience if stage.patience is None else stage.patience
    callbacks: list[Callback] = [
        WholeScores(),
        *steadier,
        Convergence(monitor, defaults.mode, patience, defaults.min_delta),
        EpochHistory(directory.history),
        ExampleScores(directory.test_examples),
        RandomState(),
        timer,
        StageProgress(label, len(datamodule.schedule), amounts, monitor, defaults.mode),
        best,
        ModelCheckpoint(directory.path, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
    ]
    resume = directory.last if directory.last.exists() else None
    goes_back = start is None and bool(collapses) and directory.start.exists()
    if guard.attempts:
        keep = directory.start if start is None and resume is None and not goes_back else None
        callbacks.insert(1 + len(steadier), _collapse_guard(datamodule, start, defaults, keep, collapses))
    if goes_back:
        start = directory.start
    callbacks.insert(0, CarryWeights(start if resume is None else None, directory.best))
    trainer = _stage_trainer(stage, directory, callbacks, trainer_arguments())
    divided = divides_modules(trainer)
    if divided and defaults.weight_averaging is not None:
        raise InputError(f"weight_averaging needs the whole module, which {type(trainer.strategy).__name__} divides.")
    # such a strategy leaves the module in shares, from which neither the test nor the next stage could start
    module = copy.deepcopy(model) if divided else model
    try:
        with _stage_optimizer(module, _slower(stage, defaults, scale), defaults):
            trainer.fit(module, datamodule=datamodule, ckpt_path=resume)
    except Collapse as collapse:
        collapses.append({"step": collapse.step, "reason": collapse.reason, "lr_scale": scale})
        rank_zero_only(directory.start_again)(collapses)
        trainer.strategy.barrier()
        if start is None and not directory.start.exists():  # in a new process the model is as it was given
            raise InputError(f"{directory.start} is gone: run the same command again to start anew.") from None
        return None
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not best.epoch:
        raise InputError(
            f"Stage {datamodule.stage + 1} ended without a validation of '{defaults.monitor}': give it an epoch."
        )
    test = {}
    if datamodule.domains.test is not None:
        module = copy.deepcopy(model) if divided else model
        (scores,) = trainer.test(module, datamodule=datamodule, verbose=False)
        test = _named(scores, "test")
    elif not divided:
        load_weights(model, directory.best)
    result = StageResult(
        index=datamodule.stage,
        amount=amounts[-1],
        in_domain=datamodule.in_domain_size,
        out_of_domain=amounts[-1],
        epochs=trainer.current_epoch,
        best_epoch=best.epoch,
        seconds=round(timer.time_elapsed("train"), 3),
        val=_named(best.scores, "val"),
        test=test,
        collapses=collapses,
    )
    rank_zero_only(directory.finish)(result)
    trainer.strategy.barrier()
    return result


def _collapse_guard(
    datamodule: MixedDomainDataModule,
    start: Path | None,
    defaults: Defaults,
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


def _slower(stage: Stage, defaults: Defaults, scale: float) -> Stage:
    """``stage`` with its learning rates times ``scale``."""
    before = merge(defaults.optimizer, stage.optimizer).lr_scale
    lr_scale = scale if before is None else scale * before
    return stage if scale == 1 else replace(stage, optimizer=replace(stage.optimizer, lr_scale=lr_scale))


def _stage_trainer(
    stage: Stage, directory: StageDirectory, callbacks: list[Callback], arguments: dict[str, Any]
) -> Trainer:
    """A fresh Trainer: Lightning resets neither loops nor callbacks between two fits of one."""
    given = arguments.get("callbacks") or []
    given = given if isinstance(given, list) else [given]
    own_progress = any(isinstance(callback, ProgressBar) for callback in given)
    if own_progress or arguments.get("enable_progress_bar") is False:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    if arguments.get("logger") in (None, True):
        path = directory.path
        arguments["logger"] = TensorBoardLogger(str(path.parent), name=path.name, version="", default_hp_metric=False)
    if arguments["logger"] and not any(isinstance(callback, LearningRateMonitor) for callback in given):
        callbacks = [LearningRateMonitor(), *callbacks]
    for name in ("max_epochs", "gradient_clip_val"):
        if getattr(stage, name) is not None:
            arguments[name] = getattr(stage, name)
    arguments["enable_model_summary"] = arguments.get("enable_model_summary") or False
    arguments["use_distributed_sampler"] = False  # the data module divides its batches among the processes itself
    try:
        return Trainer(**{**arguments, "callbacks": [*given, *callbacks]})
    except (
        MisconfigurationException,
        ValueError,
    ) as error:  # a device that is not there
        raise InputError(f"The Trainer cannot be made: {' '.join(str(error).split())}") from error


@contextmanager
def _stage_optimizer(model: LightningModule, stage: Stage, defaults: Defaults) -> Iterator[None]:
    """While it is open, ``model.configure_optimizers`` is the stage's."""
    optimizer = merge(defaults.optimizer, stage.optimizer)
    lr_schedule = merge(defaults.lr_schedule, stage.lr_schedule)
    own = model.configure_optimizers
    patched = "configure_optimizers" in vars(model)  # as LightningCLI does it

    def configured(module: LightningModule) -> Any:
        built = build_optimizer(module, optimizer)
        scheduler = build_lr_scheduler(built, lr_schedule, module.trainer.estimated_stepping_batches)
        return {"optimizer": built, **({"lr_scheduler": scheduler} if scheduler else {})}

    def scaled(module: LightningModule) -> Any:
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


def _named(scores: Mapping[str, Any], split: str) -> dict[str, float]:
    """The scores of one split, without the split in their names."""
    prefixes = (f"{split}/", f"{split}_")
    return {name[len(split) + 1 :]: float(value) for name, value in scores.items() if name.startswith(prefixes)}
