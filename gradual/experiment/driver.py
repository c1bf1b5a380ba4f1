"""Gradual fine-tuning (Xu et al., 2021, Algorithm 1): stage after stage, the weights carried forward."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from gradual.checks import checked
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError, did_you_mean
from gradual.experiment.arguments import EXPERIMENT, MODEL, check_trainer
from gradual.experiment.results import RunResult
from gradual.logging import note, quiet, saying_anew
from gradual.nn.compiled import lightning_module
from gradual.overrides import from_mapping
from gradual.runs.directory import RunDirectory, StageDirectory
from gradual.runs.fingerprint import data_fingerprint, settings_fingerprint
from gradual.runs.identity import Identity, claim, identity_of_model, remember
from gradual.runs.recovery import load_result_or_reopen, resume_point
from gradual.schedule import Schedule, Stage, remark_on_end
from gradual.settings import MAX_EPOCHS, CollapseConfig, LRScheduleConfig, OptimizerConfig, TrainSettings
from gradual.stage.callbacks.weights import load_weights
from gradual.stage.interruption import interruptible
from gradual.stage.loggers import copied
from gradual.stage.memory import stage_memory
from gradual.stage.preflight import check_stages
from gradual.stage.retest import tested_again
from gradual.stage.train import StageTraining
from gradual.stage.trainer import MakeTrainerArguments as TrainerArguments

_GROUPS = {"optimizer": OptimizerConfig, "lr_schedule": LRScheduleConfig, "collapse": CollapseConfig}


@checked(model=MODEL, **EXPERIMENT)
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
    Where the test data alone has changed or is new, finished stages are tested again.
    Afterwards ``model`` holds the last stage's weights; where the strategy divides modules among processes (FSDP) it is
    left as it was, and the weights are in ``result.best_checkpoint()``.

    In a distributed run every process calls this; the first one writes. ``batch_size`` is that of each process, and
    ``run_dir`` must lie on a file system that all machines share.

    Args:
        model: Any LightningModule that logs the monitor in validation.
        datamodule: Its data.
        schedule: Amounts of out-of-domain data, e.g. ``[4000, 2000, 500, 0]``; see ``gradual.Schedule``.
        run_dir: Folder of the experiment.
        **settings: The fields of ``gradual.TrainSettings`` (``monitor="val/loss"``, ``mode``, ``patience``,
            ``min_delta``, ``optimizer={"lr": 1e-4}``, ``lr_schedule``, ``weight_averaging``, ``smoothing``,
            ``collapse={"attempts": 3}``, ``seed``), and arguments of ``lightning.Trainer`` (``accelerator="cpu"``,
            ``max_epochs=200``; 100 where it is not given).

    Returns:
        The results of all stages, also written to ``run_dir/results.json``.

    Raises:
        InputError: An argument is of another kind, the schedule does not fit the pool, a pattern matches no
            parameter, or ``run_dir`` holds another experiment: other settings, another model, other starting weights
            or other data than now. (What a stage of the schedule overrides makes another stage, beside those there.)
        KeyboardInterrupt: After Ctrl-C; the stage was saved before.
        SystemExit: The same after SIGTERM, with status 143.
    """
    model = lightning_module(model)
    defaults, trainer = split_settings(settings)
    schedule = Schedule(schedule)
    run = RunDirectory(run_dir)
    with run.held():
        identity, untouched = identity_of_model(run, model)
        text = describe(type(model), datamodule, schedule, defaults, trainer)
        claim_fit(run, identity, datamodule, schedule, defaults, trainer, text)
        try:
            return fit_path(model, datamodule, schedule, run, defaults, lambda: copied(trainer), untouched)
        finally:
            remember(run, model, identity)


def split_settings(settings: Mapping[str, Any]) -> tuple[TrainSettings, dict[str, Any]]:
    """Keyword arguments as the defaults of the stages and the arguments of their Trainers."""
    names = {field.name for field in fields(TrainSettings)}
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
            raise InputError(f"There is no setting '{name}'.{_where(name) or did_you_mean(name, [*names, *accepted])}")
    if trainer.get("max_epochs") is None:
        trainer["max_epochs"] = MAX_EPOCHS
    return TrainSettings(**own), check_trainer(trainer)


def _where(name: str) -> str:
    """Where a setting belongs that is one of a group's or the data module's."""
    name = {"learning_rate": "lr"}.get(name, name)
    for group, cls in _GROUPS.items():
        if name in {field.name for field in fields(cls)}:
            return f" Did you mean {group}={{'{name}': ...}}?"
    if name in inspect.signature(MixedDomainDataModule).parameters:
        return f" It is an argument of the data module: MixedDomainDataModule({name}=...)."
    return ""


def describe(
    model: type[LightningModule],
    datamodule: MixedDomainDataModule,
    schedule: Schedule,
    defaults: TrainSettings,
    trainer: Mapping[str, Any],
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


@interruptible()
@quiet()
def claim_fit(
    run: RunDirectory,
    model: Identity,
    datamodule: MixedDomainDataModule,
    schedule: Schedule,
    defaults: TrainSettings,
    trainer: Mapping[str, Any],
    text: str,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make ``run``, which is held, the directory of one path of stages.

    Args:
        run: The run directory.
        model: What ``identity_of_model`` says.
        datamodule: The data; set up here.
        schedule: The stages.
        defaults: What holds where a stage says nothing.
        trainer: The Trainer's arguments.
        text: The ``config.yaml`` to write.
        arguments: Those that a configuration makes ``model`` and ``data`` with.

    Raises:
        InputError: It holds another experiment.
    """
    _set_up(datamodule, schedule, defaults.seed)
    weights = {f"seed-{defaults.seed}": model["starting_weights"]}
    data, settings = data_fingerprint(datamodule), settings_fingerprint(defaults, trainer)
    claim(run, {**model, "starting_weights": weights, "data": data, "settings": settings}, text, arguments)


def _set_up(datamodule: MixedDomainDataModule, schedule: Schedule, seed: int) -> None:
    datamodule.seed = seed
    datamodule.schedule = schedule
    datamodule.prepare_data()
    datamodule.setup("fit")


@interruptible()
@quiet()
@saying_anew()
def fit_path(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    schedule: Schedule,
    run: RunDirectory,
    defaults: TrainSettings,
    trainer_arguments: TrainerArguments,
    untouched: bool = True,
) -> RunResult:
    """Train one path of stages in a run directory that was claimed; ``fit`` says what it means.

    Args:
        model: The model.
        datamodule: Its data.
        schedule: The stages.
        run: The run directory.
        defaults: What holds where a stage says nothing.
        trainer_arguments: Gives the arguments of a stage's Trainer.
        untouched: Whether the model has the weights to start from, not those that an earlier call has left in it.
    """
    _set_up(datamodule, schedule, defaults.seed)
    if remark := remark_on_end(datamodule.amounts):
        note("%s", remark)
    parent: StageDirectory | None = None
    results = []
    checked = False
    # what is wrong with the settings of a late stage is said before the first one trains
    for k, (stage, settings) in enumerate([(stage, defaults.resolve(stage)) for stage in schedule]):
        datamodule.set_stage(k)
        directory = run.stage(parent.path if parent else run.seed(defaults.seed), datamodule.amounts[k], settings)
        result = load_result_or_reopen(directory)
        trained = result is None
        start = parent.best if parent else None
        if result is None and start is None and not untouched and resume_point(directory) is None:
            raise InputError(
                "The model holds the weights that an earlier call of gradual.fit left in it, and stage 1 starts from "
                "those that it had before: make the model anew."
            )
        if result is None and not checked:
            check_stages(model, datamodule, dict(enumerate(schedule[k:], k)), defaults, trainer_arguments)
            checked = True
        training = StageTraining(
            model,
            datamodule,
            stage,
            directory,
            start,
            defaults,
            trainer_arguments,
            settings,
            later=schedule[k + 1 :],
        )
        if result is None:
            with stage_memory():
                result = training.run()
        else:
            result = tested_again(training, result)
        result.index, result.path = k, run.relative(directory.path)
        results.append(result)
        run_result = RunResult(results, datamodule.amounts, defaults.seed, run.root, defaults.monitor, defaults.mode)
        rank_zero_only(run_result.save)()
        parent = directory
    if not trained and parent is not None:
        load_weights(model, parent.best, datamodule)
    return run_result
