"""The Trainer and the optimizer of one stage."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden

from gradual.errors import InputError
from gradual.logging import say_once
from gradual.nn.fast_cpu import has_slow_bfloat16
from gradual.runs.checkpoint import WholeCheckpointIO
from gradual.runs.directory import StageDirectory
from gradual.schedule import Stage
from gradual.settings import MAX_EPOCHS, TrainSettings, is_configured
from gradual.stage.loggers import stage_loggers
from gradual.stage.optim import (
    build_lr_scheduler,
    build_optimizer,
    check_effects,
    check_patterns,
    parameter_groups,
    scale_learning_rates,
    trainable_parameters,
)
from gradual.stage.resume.lightning_internals import forks_or_spawns
from gradual.stage.same_training import SameTraining

MakeTrainerArguments = Callable[[], dict[str, Any]]
"""Makes the arguments of a stage's Trainer, with new callbacks and loggers at each call."""


def stage_trainer(
    model: LightningModule,
    stage: Stage,
    directory: StageDirectory,
    callbacks: list[Callback],
    arguments: dict[str, Any],
    same_training: SameTraining | None = None,
) -> Trainer:
    """A fresh Trainer: Lightning resets neither loops nor callbacks between two fits of one.

    The first of ``callbacks`` stands before the user's: it makes the module what the stage starts from.
    """
    if same_training is not None:
        arguments = same_training.trainer_arguments(arguments)
    given = callbacks_of(arguments)
    own_progress = any(isinstance(callback, ProgressBar) for callback in given)
    if own_progress or arguments.get("enable_progress_bar") is False:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    arguments["logger"], of_loggers = stage_loggers(arguments.get("logger"), directory)
    if arguments["logger"] and not any(isinstance(callback, LearningRateMonitor) for callback in given):
        of_loggers = [LearningRateMonitor(), *of_loggers]
    callbacks = [*callbacks[:1], *of_loggers, *callbacks[1:]]
    for name in ("max_epochs", "max_steps", "gradient_clip_val"):
        if getattr(stage, name) is not None:
            arguments[name] = getattr(stage, name)
    if arguments.get("max_epochs") is None:
        arguments["max_epochs"] = MAX_EPOCHS
    arguments["enable_model_summary"] = arguments.get("enable_model_summary") or False
    given_plugins = arguments.get("plugins") or []
    plugins = given_plugins if isinstance(given_plugins, list) else [given_plugins]
    if any(isinstance(plugin, AsyncCheckpointIO) for plugin in plugins):
        raise InputError(
            "The plugin AsyncCheckpointIO cannot be used in stages: a checkpoint must be complete before training goes "
            "on, so that a run can be resumed, and the next stage can start from it. Remove it from plugins."
        )
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
    if trainer.strategy.root_device.type == "cpu" and trainer.precision.startswith("bf16") and has_slow_bfloat16():
        say_once(
            logging.WARNING,
            f"This CPU has no instructions for bfloat16: precision {trainer.precision} takes many times as long as "
            "32-true.",
        )
    return trainer


def callbacks_of(arguments: Mapping[str, Any]) -> Sequence[Callback]:
    """The callbacks in a Trainer's arguments."""
    given = arguments.get("callbacks") or []
    return given if isinstance(given, list) else [given]


@contextmanager
def trainer_errors() -> Iterator[None]:
    """While it is open, what a Trainer is not made for is said in a sentence.

    This may be a device that is not there, or two callbacks whose states have the same key.
    """
    try:
        yield
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"The Trainer cannot be made: {' '.join(str(error).split())}") from error


@contextmanager
def stage_optimizer(
    model: LightningModule, stage: Stage, defaults: TrainSettings, later: Sequence[Stage] = ()
) -> Iterator[None]:
    """While it is open, ``model`` has the stage's optimizer and trains the parameters that the stage trains.

    Where the optimizer is made, those of ``later`` stages are checked, too.
    """
    for given_together in (defaults.optimizer, *(one.optimizer for one in (stage, *later))):
        check_effects(given_together)
    optimizer, lr_schedule = defaults.optimizer_of(stage), defaults.lr_schedule_of(stage)
    own = model.configure_optimizers
    given: dict[str, bool] = {}

    def check_later(module: LightningModule) -> None:
        check_patterns(module, defaults.optimizer)
        for config in map(defaults.optimizer_of, later):
            by_name = {**(config.trainable_by_name or {}), **given}  # not as this stage freezes them
            if is_configured(config):
                parameter_groups(module, replace(config, trainable_by_name=by_name))
            else:
                trainable_parameters(module, by_name)

    def configured(module: LightningModule) -> Any:
        check_later(module)
        built = build_optimizer(module, optimizer)
        scheduler = build_lr_scheduler(built, lr_schedule, module.trainer.estimated_stepping_batches)
        return {"optimizer": built, **({"lr_scheduler": scheduler} if scheduler else {})}

    def scaled(module: LightningModule) -> Any:
        check_later(module)
        trainable_parameters(module, optimizer.trainable_by_name)  # for checks before the stage: it is done by then
        return scale_learning_rates(own(), 1.0 if optimizer.lr_scale is None else optimizer.lr_scale)

    if is_configured(optimizer):
        replacement: Callable[[LightningModule], Any] = configured
    elif is_overridden("configure_optimizers", model):
        replacement = scaled
    else:
        raise InputError(
            f"There is no optimizer: {type(model).__name__} has no configure_optimizers, and optimizer.lr is not set."
        )
    with _trained(model, optimizer.trainable_by_name, given), _replaced(model, "configure_optimizers", replacement):
        yield


@contextmanager
def _trained(model: LightningModule, by_name: Mapping[str, bool] | None, given: dict[str, bool]) -> Iterator[None]:
    """While it is open, ``model.configure_model`` also freezes and unfreezes parameters, by patterns of their names.

    All layers exist by then, and neither the strategy nor the optimizer has looked at what is trained. Afterwards the
    parameters are frozen or not as they were.

    Args:
        model: The module.
        by_name: Whether parameters are trained, by pattern.
        given: Filled with whether each parameter was trained before.
    """
    if not by_name:
        yield
        return
    own = model.configure_model

    def configured(module: LightningModule) -> None:
        own()
        trainable = trainable_parameters(module, by_name)
        for name, parameter in module.named_parameters():
            given.setdefault(name, parameter.requires_grad)  # a module may call it several times
            parameter.requires_grad_(trainable[name])

    try:
        with _replaced(model, "configure_model", configured):
            yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(given.get(name, parameter.requires_grad))


@contextmanager
def _replaced(model: LightningModule, name: str, method: Callable[[LightningModule], Any]) -> Iterator[None]:
    """While it is open, ``model`` has another method of this name."""
    own, patched = getattr(model, name), name in vars(model)  # LightningCLI patches, too
    setattr(model, name, types.MethodType(method, model))
    try:
        yield
    finally:
        delattr(model, name)
        if patched:
            setattr(model, name, own)
