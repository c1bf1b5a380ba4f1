"""All stages are checked before the first one trains: what Lightning would refuse in a late one is said at once.

Some of Lightning's rules depend on a stage's batches (``val_check_interval``, ``limit_train_batches``) or on the module
and a stage's settings together (clipping with manual optimization), and stages shrink. Lightning applies its rules when
a fit begins, so its own code is run here for each stage, with a Trainer that trains nothing. All that this needs of
Lightning's private names is in this file.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers
from lightning.pytorch.loops.utilities import _parse_loop_limits
from lightning.pytorch.trainer.configuration_validator import _verify_loop_configurations
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from gradual.data.module import MixedDomainDataModule
from gradual.distributed import as_one_of
from gradual.errors import InputError

_log = logging.getLogger(__name__)

_OWN_AVERAGE = "its average is not in the weights that a stage keeps: set weight_averaging: 0.999 instead"
_REFUSED: Mapping[type[Callback], str] = {
    LearningRateFinder: (
        "it sets rates that no setting shows, anew in each stage and whenever one is resumed: find the rate before, "
        "with lightning.pytorch.tuner.Tuner(trainer).lr_find(model, datamodule=data), and set optimizer.lr"
    ),
    BatchSizeFinder: (
        "it changes the batch size anew in each stage and whenever one is resumed: find the size before, with "
        "lightning.pytorch.tuner.Tuner(trainer).scale_batch_size(model, datamodule=data), and set batch_size"
    ),
    StochasticWeightAveraging: _OWN_AVERAGE,
    WeightAveraging: _OWN_AVERAGE,
    ModelPruning: "it gives the weights other names while it trains, under which the next stage does not find them",
    OnExceptionCheckpoint: "Lightning would begin the next stage from its file; stages save themselves",
}


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """Refuse callbacks of Lightning's that do something else, or nothing, in a run of several stages.

    Raises:
        InputError: There is one.
    """
    for callback in callbacks:
        for cls, reason in _REFUSED.items():
            if isinstance(callback, cls):
                raise InputError(f"The callback {type(callback).__name__} cannot be used in stages: {reason}.")


def names_without_state(callbacks: Iterable[Callback]) -> list[str]:
    """The callbacks of a user's own that have attributes, and no state that a checkpoint would keep."""
    return [
        type(callback).__name__
        for callback in callbacks
        if vars(callback)
        and not type(callback).__module__.startswith(("lightning.", "gradual."))
        and not any(is_overridden(hook, callback, Callback) for hook in ("state_dict", "on_save_checkpoint"))
    ]


@dataclass(frozen=True)
class Check:
    """Lightning's rules for the stages of one path.

    Attributes:
        model: The model.
        datamodule: The data, set up, with the schedule; its stage is changed.
        has_layers: Whether the model has all of its layers, so that optimizers can be made; None for: where it does not
            make them later, in ``configure_data``, ``setup`` or ``configure_model``.
    """

    model: LightningModule
    datamodule: MixedDomainDataModule
    has_layers: bool | None = None

    def stage(self, k: int, trainer: Trainer, configure: Any, title: str = "") -> None:
        """Check the ``k``-th stage.

        Args:
            k: The stage, counted from 0.
            trainer: A Trainer with the stage's arguments, to be used for nothing else.
            configure: A context in which ``model.configure_optimizers`` is the stage's.
            title: What the stage is called.

        Raises:
            InputError: Lightning would refuse it, or it would never validate.
        """
        model, datamodule = self.model, self.datamodule
        datamodule.set_stage(k)
        named = title or stage_title(datamodule)

        def full_title() -> str:
            return f"{named[:-1]}, {_batches(datamodule)} batches an epoch)"

        with warnings.catch_warnings(), isolate_rng(), as_one_of(trainer.num_devices * trainer.num_nodes):
            warnings.simplefilter("ignore")  # the fit itself says them
            trainer.state.fn, trainer.training = TrainerFn.FITTING, True
            with lightning_refusals(full_title, *_BEFORE):
                trainer.fit_loop.min_epochs, trainer.fit_loop.max_epochs = _parse_loop_limits(
                    trainer.min_steps, trainer.max_steps, trainer.min_epochs, trainer.max_epochs, trainer
                )
                trainer.strategy.connect(model)
                trainer._data_connector.attach_data(model, datamodule=datamodule)
                own = model.configure_callbacks()
                check_callbacks(own if isinstance(own, Sequence) else [own])
            interval = getattr(trainer, "val_check_interval", None)  # it has none where it is a time
            if interval is None:
                raise InputError(
                    "val_check_interval is a time: a resumed stage would validate elsewhere, and a short one nowhere. "
                    "Give a number of batches, or a fraction of an epoch."
                )
            with configure, lightning_refusals(full_title, *_BEFORE, interval=interval):
                _verify_loop_configurations(trainer)
                trainer.fit_loop.setup_data()
                trainer.fit_loop.epoch_loop.val_loop.setup_data()
                _check_that_it_validates(trainer, full_title)
                if self._can_make_optimizers():
                    optimizers, _ = _init_optimizers_and_lr_schedulers(model)
                    by_norm = trainer.gradient_clip_algorithm != GradClipAlgorithmType.VALUE
                    if by_norm and model.automatic_optimization and not trainer.strategy.restore_checkpoint_after_setup:
                        for optimizer in optimizers:  # without gradients this applies the rules, and nothing else
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
            _note_accumulation(trainer, full_title)

    def _can_make_optimizers(self) -> bool:
        if self.has_layers is None:
            later = hasattr(self.model, "configure_data")
            return not (later or any(is_overridden(hook, self.model) for hook in ("setup", "configure_model")))
        return self.has_layers


def stage_title(datamodule: MixedDomainDataModule) -> str:
    """The data module's current stage in words."""
    return f"Stage {datamodule.stage + 1} ({datamodule.amounts[datamodule.stage]} out-of-domain)"


_BEFORE = (NotImplementedError, RuntimeError, TypeError, ValueError)
"""What Lightning refuses with before a fit, besides its own exception."""


@contextmanager
def lightning_refusals(title: Callable[[], str], *others: type[Exception], interval: Any = None) -> Iterator[None]:
    """While it is open, what Lightning refuses is said in one sentence, with the stage.

    Args:
        title: Says which stage it is.
        *others: Exceptions that are refusals, too, where Lightning itself raises them.
        interval: The Trainer's ``val_check_interval``, where it is being checked.
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
                f"val_check_interval is {interval}, more than there are: give a fraction of an epoch (0.5), or count "
                "batches over all epochs with check_val_every_n_epoch: null"
            )
        raise InputError(f"{title()} cannot be trained: {said.rstrip('.')}.") from error


def _is_lightnings(error: BaseException) -> bool:
    """Whether Lightning itself raised it, and not code that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("lightning.")


def _batches(datamodule: MixedDomainDataModule) -> Any:
    loader = datamodule.train_dataloader()
    return len(loader) if hasattr(loader, "__len__") else "an unknown number of"


def _check_that_it_validates(trainer: Trainer, title: Callable[[], str]) -> None:
    """Refuse a stage that would end before it validates: it could keep no epoch."""
    batches = trainer.num_training_batches
    if batches == 0 or trainer.limit_train_batches == 0:
        raise InputError(f"{title()} has no batches to train on: limit_train_batches is {trainer.limit_train_batches}.")
    if trainer.enable_validation and not sum(trainer.num_val_batches):
        raise InputError(f"{title()} has no validation examples, by which to keep an epoch.")
    interval, epochs, every = trainer.val_check_batch, trainer.max_epochs, trainer.check_val_every_n_epoch
    automatic = trainer.lightning_module.automatic_optimization  # else only the module knows how many steps it takes
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
            f"val_check_interval: {trainer.val_check_interval}), and keep no epoch: train longer, or validate earlier."
        )


def _note_accumulation(trainer: Trainer, title: Callable[[], str]) -> None:
    batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    if accumulated > batches:
        rank_zero_only(_log.warning)(
            f"{title()}: accumulate_grad_batches is {accumulated}, so each epoch is one step, whose gradient is "
            f"divided by {accumulated} and not by {batches}."
        )


def callbacks_of(arguments: Mapping[str, Any]) -> Sequence[Callback]:
    """The callbacks among a Trainer's arguments."""
    given = arguments.get("callbacks") or []
    return given if isinstance(given, list) else [given]
