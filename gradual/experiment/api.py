"""``gradual.fit`` and ``gradual.compare``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack

import yaml
from lightning.pytorch import LightningModule, Trainer

from gradual.checks import Accepted, checked, integer
from gradual.config_dataclasses import from_mapping
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError, did_you_mean
from gradual.experiment.arguments import (
    EXPERIMENT,
    FACTORY,
    FINAL,
    MODEL,
    NAMES,
    SEEDS,
    STRATEGIES,
    check_trainer,
    made_by,
)
from gradual.experiment.driver import claim_run, compare_tree, fit_path, plan_path, plan_tree
from gradual.experiment.executors import in_process, processes
from gradual.experiment.experiment import Experiment, PathExperiment
from gradual.experiment.final import Final
from gradual.experiment.pickling import pickled
from gradual.experiment.results import RunResult
from gradual.experiment.strategies import Strategy, parse_strategies
from gradual.experiment.trainer_arguments import TrainerArguments
from gradual.nn.compiled import lightning_module
from gradual.report import check_packages
from gradual.runs.directory import RunDirectory
from gradual.schedule import Schedule, Stage
from gradual.settings import MAX_EPOCHS, CollapseConfig, LRScheduleConfig, OptimizerConfig, TrainSettings
from gradual.stage.loggers import copied

_GROUPS = {"optimizer": OptimizerConfig, "lr_schedule": LRScheduleConfig, "collapse": CollapseConfig}
SETTINGS = dict.fromkeys(  # which TrainSettings checks
    (setting.name for setting in fields(TrainSettings)), Accepted("a setting", lambda value: None)
)

Stages = Schedule | Iterable[float | Stage | Mapping[str, Any]]
"""What a schedule is given as."""


@checked(model=MODEL, final=FINAL, **EXPERIMENT, **SETTINGS)
def fit(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    schedule: Stages,
    run_dir: str | Path,
    *,
    monitor: str = TrainSettings.monitor,
    mode: str = TrainSettings.mode,
    patience: int = TrainSettings.patience,
    min_delta: float = TrainSettings.min_delta,
    optimizer: OptimizerConfig | Mapping[str, Any] | None = None,
    lr_schedule: LRScheduleConfig | Mapping[str, Any] | None = None,
    weight_averaging: float | None = TrainSettings.weight_averaging,
    smoothing: int | None = TrainSettings.smoothing,
    collapse: CollapseConfig | Mapping[str, Any] | None = None,
    checkpoint_every: float = TrainSettings.checkpoint_every,
    seed: int = TrainSettings.seed,
    final: str | Mapping[str, int] | Final = "last",
    **trainer: Unpack[TrainerArguments],
) -> RunResult:
    """Train ``model`` through the stages of ``schedule``, each to convergence, carrying the best weights forward.

    A stage that is finished in ``run_dir`` is not trained again, and one that was interrupted continues from its last
    checkpoint. Test scores are measured after each stage if there is test data; they are reported, never used.
    If the test data alone is new or has changed, finished stages are tested again.
    Afterwards ``model`` has the weights of the result, which is the last stage unless ``final`` says otherwise. A
    strategy that divides modules among processes (FSDP) leaves it as it was; the weights are in
    ``result.best_checkpoint()``.

    In a distributed run every process calls this function; the first one writes. ``batch_size`` is that of each
    process, and ``run_dir`` must be on a file system that all machines share.

    Args:
        model: Any LightningModule that logs ``monitor`` in validation.
        datamodule: Its data.
        schedule: Amounts of out-of-domain data, e.g. ``[4000, 2000, 500, 0]``; see ``gradual.Schedule``.
        run_dir: Folder of the experiment.
        monitor: Validation score that decides on convergence and on the best epoch.
        mode: Which value of it is better: ``min``, ``max``, or ``auto`` to go by its name.
        patience: Validations without improvement after which a stage has converged.
        min_delta: Least change of the score that counts as an improvement.
        optimizer: The optimizer, e.g. ``{"lr": 1e-4}``; None for the module's own ``configure_optimizers``.
        lr_schedule: The learning-rate schedule of that optimizer, e.g. ``{"name": "linear", "warmup": 0.1}``.
        weight_averaging: Decay of an exponential moving average of the weights, e.g. 0.999; None for no average.
        smoothing: Number of validations whose mean score decides; None for the last one alone.
        collapse: What to do when a stage collapses, e.g. ``{"attempts": 3}``.
        checkpoint_every: Minutes of training between two checkpoints within an epoch.
        seed: Seed of samples, order and dropout.
        final: The result of the path, whose weights ``model`` has afterwards: ``last`` for its last stage, ``best`` for
            the one with the best monitored validation score, ``average`` for the mean of the weights of all stages, or
            ``{"average": 2}`` for that of the stages from the second on.
        **trainer: Arguments of ``lightning.Trainer``, e.g. ``accelerator="cpu"``; ``max_epochs`` is 100 unless given.

    Returns:
        The results of all stages, also written to ``run_dir/results.json``.

    Raises:
        InputError: An argument is not accepted, the schedule does not fit the pool, a pattern matches no parameter, or
            ``run_dir`` holds another experiment: other settings, another model, other starting weights or other data.
            (A stage of the schedule with other overrides is another stage, beside those that are there.)
        KeyboardInterrupt: After Ctrl-C; the stage was saved before.
        SystemExit: After SIGTERM, with status 143; the stage was saved before.
    """
    defaults, arguments = read_settings(
        trainer,
        monitor=monitor,
        mode=mode,
        patience=patience,
        min_delta=min_delta,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        weight_averaging=weight_averaging,
        smoothing=smoothing,
        collapse=collapse,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )
    model, stages = lightning_module(model), Schedule(schedule)
    run = RunDirectory(run_dir)
    with run.held():
        kept = Final.read(final)
        experiment = PathExperiment(model, datamodule, stages, run, defaults, lambda: copied(arguments), kept)
        tree = plan_path(experiment)
        claim_run(experiment, tree, arguments, functools.partial(described, datamodule, stages, defaults, arguments))
        return fit_path(experiment, tree)


@checked(
    model=FACTORY,
    strategies=STRATEGIES,
    seeds=SEEDS,
    metrics=NAMES,
    jobs=integer(1),
    final=FINAL,
    **EXPERIMENT,
    **SETTINGS,
)
def compare(
    model: Callable[[], LightningModule],
    datamodule: MixedDomainDataModule,
    schedule: Stages,
    run_dir: str | Path,
    *,
    strategies: Mapping[str, Strategy | Mapping[str, Any] | Stages] | Sequence[str] | None = None,
    controls: bool | Sequence[str] = False,
    seeds: Iterable[int] = (0, 1, 2),
    metrics: Iterable[str] | None = None,
    baseline: str | None = None,
    jobs: int = 1,
    monitor: str = TrainSettings.monitor,
    mode: str = TrainSettings.mode,
    patience: int = TrainSettings.patience,
    min_delta: float = TrainSettings.min_delta,
    optimizer: OptimizerConfig | Mapping[str, Any] | None = None,
    lr_schedule: LRScheduleConfig | Mapping[str, Any] | None = None,
    weight_averaging: float | None = TrainSettings.weight_averaging,
    smoothing: int | None = TrainSettings.smoothing,
    collapse: CollapseConfig | Mapping[str, Any] | None = None,
    checkpoint_every: float = TrainSettings.checkpoint_every,
    final: str | Mapping[str, int] | Final = "last",
    **trainer: Unpack[TrainerArguments],
) -> Path:
    """Train several strategies under several seeds, each stage that they share once, and report them.

    The report needs ``gradual[report]``, which is looked for first.

    Args:
        model: Makes an untrained model; called after the seed is set.
        datamodule: The data.
        schedule: The schedule of gradual fine-tuning.
        run_dir: Folder of the experiment; a stage that is finished there, by ``gradual.fit`` too, is not trained again.
        strategies: Some of the paper's four (in-domain only, mixed, one-stage, gradual) with the amounts of
            ``schedule``, as a list of names or as a mapping with overrides, e.g. ``{"mixed": {"max_epochs": 8}}``; a
            mapping may also have paths of its own, e.g. ``{"constant": [2000, 2000, 0]}``. None for all four, or for
            three if ``schedule`` has two stages: one-stage and gradual are then the same path.
        controls: True to add to each strategy of several stages its controls, which train as many steps with other
            amounts: the same training in one stage, with the same restarts, with a drop at once, and mixed. A list of
            names takes their place; see ``gradual.experiment.controls`` for all names.
        seeds: Each strategy is trained with each of them.
        metrics: Scores to report, of validation and of the test if there is one; None for all but the loss, or the
            loss alone.
        baseline: The strategy that differences are taken from; None for in-domain only, or else the first one.
        jobs: Number of stages to train at once, each in a process of its own with its share of the cores, or a GPU.
            ``model`` must then be a function or class of a module, or a ``functools.partial`` of one.
        monitor: As in ``gradual.fit``, like all settings that follow.
        mode: See ``gradual.fit``.
        patience: See ``gradual.fit``.
        min_delta: See ``gradual.fit``.
        optimizer: See ``gradual.fit``.
        lr_schedule: See ``gradual.fit``.
        weight_averaging: See ``gradual.fit``.
        smoothing: See ``gradual.fit``.
        collapse: See ``gradual.fit``.
        checkpoint_every: See ``gradual.fit``.
        final: The result of each path, as in ``gradual.fit``; a strategy may have its own.
        **trainer: Arguments of ``lightning.Trainer``.

    Returns:
        The report's page, ``run_dir/report/report.html``; tables and figures are beside it.

    Raises:
        InputError: An argument is not accepted, a schedule does not fit the pool, ``run_dir`` holds another experiment
            (see ``gradual.fit``), one of the metrics is never logged, there is no control of that name, no stage of
            the paper's strategies would use the pool, or every path needs a stage that collapsed.
    """
    check_packages()
    given: dict[str, Any] = dict(trainer)
    if "seed" in given:
        raise InputError(f"A comparison takes several seeds: write seeds=[{given['seed']!r}] instead of seed.")
    defaults, arguments = read_settings(
        given,
        monitor=monitor,
        mode=mode,
        patience=patience,
        min_delta=min_delta,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        weight_averaging=weight_averaging,
        smoothing=smoothing,
        collapse=collapse,
        checkpoint_every=checkpoint_every,
    )
    stages = Schedule(schedule)
    chosen = parse_strategies(strategies, stages)
    if any(strategy.data for strategy in chosen.values()):
        raise InputError("A strategy with data settings of its own needs a configuration file: see gradual compare.")
    kept = Final.read(final)
    make = functools.partial(make_experiment, model, datamodule, str(run_dir), defaults, arguments, metrics, kept)
    parts = {"model": model, "datamodule": datamodule, **arguments}
    with ExitStack() as stack:
        sent = stack.enter_context(pickled(make, parts, jobs)) if jobs > 1 else None  # before the data are loaded
        stack.enter_context(RunDirectory(run_dir).held())
        experiment = make()
        execute = in_process(experiment) if sent is None else processes(sent, jobs)
        tree = plan_tree(experiment, chosen, seeds, controls)
        claim_run(experiment, tree, arguments, functools.partial(described, datamodule, stages, defaults, arguments))
        return compare_tree(experiment, tree, execute, baseline)


def make_experiment(
    model: Callable[[], LightningModule],
    datamodule: MixedDomainDataModule,
    run_dir: str,
    defaults: TrainSettings,
    trainer: Mapping[str, Any],
    metrics: Iterable[str] | None,
    final: Final,
) -> Experiment:
    """Make the experiment of a comparison, in this process or in a worker."""
    run = RunDirectory(run_dir)
    return Experiment(made_by(model), lambda _: datamodule, run, defaults, lambda: copied(trainer), metrics, final)


def read_settings(trainer: Mapping[str, Any], **settings: Any) -> tuple[TrainSettings, dict[str, Any]]:
    """Read keyword arguments as the settings of stages and the arguments of their Trainers.

    Args:
        trainer: Arguments of the Trainer, and whatever else was given by name.
        settings: Fields of ``TrainSettings``; a group of settings may be None or a mapping.
    """
    for name, cls in _GROUPS.items():
        if settings[name] is None:
            del settings[name]
        elif isinstance(settings[name], Mapping):
            settings[name] = from_mapping(cls, settings[name], name)
    accepted = inspect.signature(Trainer.__init__).parameters
    for name in trainer:
        if name not in accepted:
            raise InputError(
                f"There is no setting '{name}'.{_advice(name) or did_you_mean(name, [*SETTINGS, *accepted])}"
            )
    arguments = dict(trainer)
    if arguments.get("max_epochs") is None:
        arguments["max_epochs"] = MAX_EPOCHS
    return TrainSettings(**settings), check_trainer(arguments)


def _advice(name: str) -> str:
    """Say where a setting belongs that is one of a group's or the data module's."""
    name = {"learning_rate": "lr"}.get(name, name)
    for group, cls in _GROUPS.items():
        if name in {setting.name for setting in fields(cls)}:
            return f" Did you mean {group}={{'{name}': ...}}?"
    if name in inspect.signature(MixedDomainDataModule).parameters:
        return f" It is an argument of the data module: MixedDomainDataModule({name}=...)."
    return ""


def described(
    datamodule: MixedDomainDataModule,
    schedule: Schedule,
    defaults: TrainSettings,
    trainer: Mapping[str, Any],
    model: type[LightningModule],
) -> str:
    """The ``config.yaml`` of an experiment that Python code describes."""
    experiment = {
        "model": f"{model.__module__}.{model.__qualname__}",
        "data": f"{type(datamodule).__module__}.{type(datamodule).__qualname__}",
        "batch_size": datamodule.batch_size,
        "batch_tokens": datamodule.batch_tokens,
        "trainer": {name: value for name, value in trainer.items() if isinstance(value, str | int | float | None)},
        "schedule": schedule.to_list(),
    }
    return str(yaml.safe_dump(experiment | defaults.to_plain(), sort_keys=False))  # the order of patterns counts
