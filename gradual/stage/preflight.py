"""Checks of all stages before the first one trains, for what Lightning would refuse only when a later stage begins.

Some of Lightning's rules depend on the number of batches (``val_check_interval``, ``limit_train_batches``), which falls
from stage to stage, or on the module together with a stage's settings (clipping with manual optimization). Lightning
applies its rules when a fit begins. Here its own code is run for each stage, with a Trainer that trains nothing.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    LearningRateFinder,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from gradual.data.module import MixedDomainDataModule
from gradual.distributed import as_one_of
from gradual.errors import InputError
from gradual.runs.directory import StageDirectory
from gradual.schedule import Stage
from gradual.settings import TrainSettings
from gradual.stage.adapter import check_adapter
from gradual.stage.kept_optimizer import check_kept_optimizer
from gradual.stage.requirements import check_requirements
from gradual.stage.resume.lightning_internals import attach_data, make_optimizers, verify_loop_configuration
from gradual.stage.trainer import MakeTrainerArguments, callbacks_of, stage_optimizer, stage_trainer

_log = logging.getLogger(__name__)

_OWN_AVERAGE = "its average is not part of the weights that a stage saves: set weight_averaging: 0.999 instead"
_REFUSED: Mapping[type[Callback], str] = {
    LearningRateFinder: (
        "it would change the learning rate at the start of each stage, and whenever a stage is resumed: find the rate "
        "beforehand with lightning.pytorch.tuner.Tuner(trainer).lr_find(model, datamodule=data), and set optimizer.lr"
    ),
    BatchSizeFinder: (
        "it would change the batch size at the start of each stage, and whenever a stage is resumed: find the size "
        "beforehand with lightning.pytorch.tuner.Tuner(trainer).scale_batch_size(model, datamodule=data), and set "
        "batch_size"
    ),
    StochasticWeightAveraging: _OWN_AVERAGE,
    WeightAveraging: _OWN_AVERAGE,
    ModelPruning: "it renames the weights during training, so that the next stage would not find them",
    OnExceptionCheckpoint: "Lightning would start the next stage from its file, but stages save their own checkpoints",
}


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """Check that there are none of Lightning's callbacks that do not work in a run of several stages.

    Raises:
        InputError: There is one.
    """
    for callback in callbacks:
        for cls, reason in _REFUSED.items():
            if isinstance(callback, cls):
                raise InputError(f"The callback {type(callback).__name__} cannot be used in stages: {reason}.")


def names_without_state(callbacks: Iterable[Callback]) -> list[str]:
    """The user's own callbacks that have attributes but no state for checkpoints."""
    return [
        type(callback).__name__
        for callback in callbacks
        if vars(callback)
        and not type(callback).__module__.startswith(("lightning.", "gradual."))
        and not any(is_overridden(hook, callback, Callback) for hook in ("state_dict", "on_save_checkpoint"))
    ]


def check_stages(
    model: LightningModule,
    datamodule: MixedDomainDataModule,
    stages: Mapping[int, Stage],
    defaults: TrainSettings,
    trainer_arguments: MakeTrainerArguments,
    titles: Mapping[int, str] | None = None,
    has_layers: bool | None = None,
    before: Stage | None = None,
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
        before: The stage before the first of them; None for a first one.

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
            check_adapter(model, stage, trainer.strategy)
            if before is not None:
                check_kept_optimizer(model, stage, before, defaults, trainer.strategy)
            before = stage
            check.stage(k, trainer, stage_optimizer(model, stage, defaults), (titles or {}).get(k, ""))
    finally:
        model.trainer = datamodule.trainer = None
    datamodule.set_stage(current)


@dataclass(frozen=True)
class Check:
    """Lightning's rules, applied to the stages of a path.

    Attributes:
        model: The model.
        datamodule: The data, set up, with the schedule; its current stage is changed.
        has_layers: Whether the model has all of its layers, so that optimizers can be made. By default, it has if it
            overrides none of ``configure_data``, ``setup`` and ``configure_model``.
    """

    model: LightningModule
    datamodule: MixedDomainDataModule
    has_layers: bool | None = None

    def stage(self, k: int, trainer: Trainer, configure: Any, title: str = "") -> None:
        """Check the ``k``-th stage.

        Args:
            k: The stage, counted from 0.
            trainer: A Trainer with the stage's arguments, which cannot be used afterwards.
            configure: A context manager in which ``model.configure_optimizers`` is the stage's.
            title: The name of the stage.

        Raises:
            InputError: Lightning would refuse the stage, or it would never validate.
        """
        model, datamodule = self.model, self.datamodule
        datamodule.set_stage(k)
        named = title or stage_title(datamodule)

        def full_title() -> str:
            return f"{named[:-1]}, {_batches(datamodule)} batches an epoch)"

        with warnings.catch_warnings(), isolate_rng(), as_one_of(trainer.num_devices * trainer.num_nodes):
            warnings.simplefilter("ignore")  # the fit itself will warn
            trainer.state.fn, trainer.training = TrainerFn.FITTING, True
            with lightning_refusals(full_title, *_BEFORE):
                trainer.strategy.connect(model)
                attach_data(trainer, model, datamodule)
                own = model.configure_callbacks()
                check_callbacks(own if isinstance(own, Sequence) else [own])
            interval = getattr(trainer, "val_check_interval", None)  # a Trainer does not have it if it is a time
            if interval is None:
                raise InputError(
                    "val_check_interval is a time: a resumed stage would validate at other steps, and a short one "
                    "never. Use a number of batches, or a fraction of an epoch."
                )
            with configure, lightning_refusals(full_title, *_BEFORE, interval=interval):
                verify_loop_configuration(trainer)
                trainer.fit_loop.setup_data()
                trainer.fit_loop.epoch_loop.val_loop.setup_data()
                _check_that_it_validates(trainer, full_title)
                if _length(trainer.train_dataloader) is None:
                    raise InputError(
                        f"{named} cannot be trained: the loader that {type(datamodule).__name__}.train_dataloader "
                        "returns has no length, so that no stage could be planned or resumed. Its dataset must be "
                        "map-style (with __len__ and __getitem__)."
                    )
                if self._can_make_optimizers():
                    optimizers = make_optimizers(model)
                    by_norm = trainer.gradient_clip_algorithm != GradClipAlgorithmType.VALUE
                    if by_norm and model.automatic_optimization and not trainer.strategy.restore_checkpoint_after_setup:
                        for optimizer in optimizers:  # without gradients, this only applies the rules
                            trainer.precision_plugin.clip_gradients(
                                optimizer,
                                trainer.gradient_clip_val or 0.0,
                                trainer.gradient_clip_algorithm or GradClipAlgorithmType.NORM,
                            )
            with lightning_refusals(full_title, *_BEFORE):
                if datamodule.domains.test is not None and is_overridden("test_step", model):
                    trainer.state.fn, trainer.testing = TrainerFn.TESTING, True
                    trainer.test_loop.setup_data()
            trainer.fit_loop.teardown()
            _warn_of_accumulation(trainer, full_title)

    def _can_make_optimizers(self) -> bool:
        if self.has_layers is None:
            later = hasattr(self.model, "configure_data")
            return not (later or any(is_overridden(hook, self.model) for hook in ("setup", "configure_model")))
        return self.has_layers


def stage_title(datamodule: MixedDomainDataModule) -> str:
    """The name of the data module's current stage in messages."""
    return f"Stage {datamodule.stage + 1} ({datamodule.amounts[datamodule.stage]} out-of-domain)"


_BEFORE = (NotImplementedError, RuntimeError, TypeError, ValueError)
"""Exceptions with which Lightning refuses settings before a fit, besides its own."""


@contextmanager
def lightning_refusals(title: Callable[[], str], *others: type[Exception], interval: Any = None) -> Iterator[None]:
    """Turn Lightning's errors about settings into an ``InputError`` of one sentence that names the stage.

    Args:
        title: Returns the name of the stage.
        *others: Exceptions to turn, besides ``MisconfigurationException``, if Lightning itself raises them.
        interval: The Trainer's ``val_check_interval``, if it is being checked.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (MisconfigurationException, *others)):
            raise
        if not isinstance(error, MisconfigurationException) and not _is_lightnings(error):
            raise
        said = " ".join(str(error).split())
        if interval is not None and "`val_check_interval`" in said and "limit_val_batches" in said:
            said = (
                f"val_check_interval is {interval}, more than there are: use a fraction of an epoch (0.5), or count "
                "batches across epochs with check_val_every_n_epoch: null"
            )
        raise InputError(f"{title()} cannot be trained: {said.rstrip('.')}.") from error


def _is_lightnings(error: BaseException) -> bool:
    """Whether the error was raised by Lightning itself, and not by code that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("lightning.")


def _batches(datamodule: MixedDomainDataModule) -> Any:
    number = _length(datamodule.train_dataloader())
    return "an unknown number of" if number is None else number


def _length(loader: Any) -> int | None:
    """The batches of a loader, or of each of several; None where it has no length."""
    if isinstance(loader, Mapping | list | tuple):
        lengths = [_length(one) for one in (loader.values() if isinstance(loader, Mapping) else loader)]
        return max((length for length in lengths if length is not None), default=None) if None not in lengths else None
    try:
        return len(loader)
    except TypeError:  # it has the method, but its dataset has not
        return None


def _check_that_it_validates(trainer: Trainer, title: Callable[[], str]) -> None:
    """Check that the stage validates before it ends, since otherwise there would be no best epoch."""
    batches = trainer.num_training_batches
    if batches == 0 or trainer.limit_train_batches == 0:
        raise InputError(f"{title()} has no batches to train on: limit_train_batches is {trainer.limit_train_batches}.")
    if trainer.enable_validation and not sum(trainer.num_val_batches):
        raise InputError(f"{title()} has no validation examples to select its best epoch by.")
    interval, epochs, every = trainer.val_check_batch, trainer.max_epochs, trainer.check_val_every_n_epoch
    automatic = trainer.lightning_module.automatic_optimization  # otherwise only the module knows the number of steps
    if interval is None or interval == float("inf") or epochs is None or not automatic:
        return
    last = batches * epochs if epochs != -1 else float("inf")
    if trainer.max_steps != -1:
        accumulated = trainer.accumulate_grad_batches
        whole, rest = divmod(trainer.max_steps, -(-batches // accumulated))
        last = min(last, whole * batches + min(batches, rest * accumulated))
    first = interval if every is None else (every - 1) * batches + interval
    if first > last:
        limits = {"max_epochs": epochs, "max_steps": trainer.max_steps, "check_val_every_n_epoch": every or 1}
        set_ = [f"{name}: {value}" for name, value in limits.items() if value not in (-1, 1) or name == "max_epochs"]
        raise InputError(
            f"{title()} would end after {last} batches, before its first validation after {first} ({', '.join(set_)}, "
            f"val_check_interval: {trainer.val_check_interval}): train longer, or validate earlier."
        )


def _warn_of_accumulation(trainer: Trainer, title: Callable[[], str]) -> None:
    batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    if accumulated > batches:
        rank_zero_only(_log.warning)(
            f"{title()}: accumulate_grad_batches is {accumulated}, so each epoch is a single step, and its gradient is "
            f"divided by {accumulated} instead of {batches}."
        )
