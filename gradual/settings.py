"""The settings of an experiment, and what its stages may override of them.

*Settings* (``TrainSettings``) belong to the whole experiment; *overrides* (``StageOverrides``) to a stage, to stages by
their position, or to a strategy. ``TrainSettings.resolve`` combines them into all that one stage trains with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gradual.checks import Accepted, check_fields, integer, is_number, number, of_hint
from gradual.config_dataclasses import as_plain, merge
from gradual.errors import InputError, did_you_mean
from gradual.score_names import better


@dataclass(frozen=True)
class OptimizerConfig:
    """Configuration of an optimizer. None means not set: a stage then takes the experiment's value.

    Attributes:
        class_path: Class of the optimizer, e.g. ``torch.optim.AdamW`` (the default) or ``gradual.BertAdam``.
        lr: Learning rate of all parameters that no pattern of ``lr_by_name`` matches.
        lr_by_name: Learning rate by parameter-name pattern, e.g. ``{"model.encoder.*": 1e-5}``; the first match counts.
        lr_scale: Factor for all learning rates, including those of the module's own ``configure_optimizers``.
        weight_decay: Weight decay of all parameters that no pattern of ``weight_decay_by_name`` matches, of biases and
            norms, too. None leaves it to the class: 0.01 for AdamW.
        weight_decay_by_name: Weight decay by parameter-name pattern, e.g. ``{"*.bias": 0}``; the first match counts.
        trainable_by_name: Whether to train parameters, by parameter-name pattern, e.g. ``{"model.encoder.*": false}``;
            the first match counts, and without a match what the module says.
        init_args: Further arguments of the class, e.g. ``{"betas": [0.9, 0.98]}``.
        state: What a stage's optimizer starts with: ``fresh`` (the default) with nothing; ``keep`` with the state of
            the stage before (such as Adam's moments and step count), as of the weights that the stage starts from.
            Learning rates and their schedule start anew either way. Without effect on the first stage.
    """

    class_path: str | None = None
    lr: float | None = None
    lr_by_name: dict[str, float] | None = None
    lr_scale: float | None = None
    weight_decay: float | None = None
    weight_decay_by_name: dict[str, float] | None = None
    trainable_by_name: dict[str, bool] | None = None
    init_args: dict[str, Any] | None = None
    state: Literal["fresh", "keep"] | None = None

    def __post_init__(self) -> None:
        by_name = {"lr_by_name": number(0), "weight_decay_by_name": number(0), "trainable_by_name": of_hint(bool)}
        mappings = dict.fromkeys(by_name, of_hint(dict[str, Any]))
        check_fields(self, "optimizer.{}", lr=number(0), lr_scale=number(0), weight_decay=number(0), **mappings)
        for name, accepted in by_name.items():
            values = getattr(self, name)
            if values is not None:
                checked = {key: accepted.check(f"optimizer.{name}['{key}']", value) for key, value in values.items()}
                object.__setattr__(self, name, checked)


USED_BY_OWN_OPTIMIZER = ("lr_scale", "trainable_by_name", "state")
"""The settings of an optimizer that also apply where the module's ``configure_optimizers`` makes it."""


def is_configured(config: OptimizerConfig) -> bool:
    """Whether ``config`` defines an optimizer, and not only what ``USED_BY_OWN_OPTIMIZER`` lists."""
    return config.class_path is not None or config.lr is not None or bool(config.lr_by_name)


@dataclass(frozen=True)
class LRScheduleConfig:
    """Configuration of a learning-rate schedule. None means not set: a stage then takes the experiment's value.

    Attributes:
        name: A schedule of ``transformers.get_scheduler``: ``constant`` (the default), ``linear``, ``cosine``, ...; or
            ``bert_linear``, that of SUMBT's published code. One that decays reaches its end at the stage's last planned
            step.
        warmup: Length of the linear warm-up: a number of steps (an int), or a fraction of the planned steps (a float
            from 0 to 1).
        power: Exponent of the schedule's factor, warm-up included; 2 applies the schedule twice.
    """

    name: str | None = None
    warmup: int | float | None = None
    power: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "lr_schedule.{}", power=number(above=0))
        if self.warmup is not None:
            number(0).check("lr_schedule.warmup", self.warmup)
        if isinstance(self.warmup, float) and self.warmup > 1 and not self.warmup.is_integer():
            raise InputError(
                f"lr_schedule.warmup is {self.warmup}: it must be a whole number of steps, or a fraction from 0 to 1 "
                "of the planned steps."
            )


@dataclass(frozen=True, kw_only=True)
class StageOverrides:
    """Settings of a stage that differ from the experiment's. None means not overridden.

    Attributes:
        optimizer: The optimizer, merged into the experiment's field by field (and pattern by pattern).
        lr_schedule: The learning-rate schedule, merged in the same way.
        max_epochs: Maximum number of epochs.
        max_steps: Maximum number of optimizer steps.
        patience: Number of validations without improvement after which the stage has converged.
        batch_size: Training examples per batch and process.
        gradient_clip_val: Maximum gradient norm (or value, depending on the Trainer's ``gradient_clip_algorithm``).
        adapter: What becomes of the adapter (such as a model's LoRA) that the stage before has trained: ``continue``
            (the default) trains it further; ``merge`` adds it to the weights under it and trains a new one. Without
            effect on the first stage.
        in_domain_weight: How often each in-domain example occurs in an epoch, e.g. 2.5: each of them twice, and half of
            them once more. None for once.
    """

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr_schedule: LRScheduleConfig = field(default_factory=LRScheduleConfig)
    max_epochs: int | None = None
    max_steps: int | None = None
    patience: int | None = None
    batch_size: int | None = None
    gradient_clip_val: float | None = None
    adapter: Literal["continue", "merge"] | None = None
    in_domain_weight: float | None = None

    def __post_init__(self) -> None:
        accepted = dict.fromkeys(("max_epochs", "max_steps", "batch_size"), integer(1)) | {"patience": integer(0)}
        check_fields(self, "{} of a stage", gradient_clip_val=number(0), in_domain_weight=number(1), **accepted)

    def overrides(self) -> dict[str, Any]:
        """The settings that are overridden, as plain data; ``{}`` if none."""
        return as_plain(self)


def group(cls: type[Any], example: str, advice: Callable[[Any], str] = lambda value: "") -> Accepted:
    """A check for a group of settings.

    Args:
        cls: The dataclass of the group.
        example: A mapping to show in the message.
        advice: Returns what to write instead of a value that is refused.
    """
    return replace(of_hint(cls).advised(advice), words=f"a mapping of settings, such as {example}")


def _of_optimizer(value: Any) -> str:
    """Say which settings express an optimizer, a class, a name or a learning rate that was passed instead."""
    from torch import optim

    if is_number(value):
        return f"write optimizer={{'lr': {value}}}"
    if isinstance(value, str):
        classes = {name.lower(): name for name in vars(optim) if name[:1].isupper() and name != "Optimizer"}
        if "." not in value and value.lower() not in classes:
            return did_you_mean(value.lower(), classes).strip().lower().removesuffix("?")
        class_path = value if "." in value else f"torch.optim.{classes[value.lower()]}"
    else:
        cls = value if isinstance(value, type) else type(value)
        if not issubclass(cls, optim.Optimizer):
            return ""
        of_torch = getattr(optim, cls.__name__, None) is cls
        class_path = f"torch.optim.{cls.__name__}" if of_torch else f"{cls.__module__}.{cls.__qualname__}"
    lr = value.defaults["lr"] if isinstance(value, optim.Optimizer) and "lr" in value.defaults else 0.001
    return f"each stage makes its own: write optimizer={{'class_path': '{class_path}', 'lr': {lr}}}"


def _of_lr_schedule(value: Any) -> str:
    return f"write lr_schedule={{'name': '{value}'}}" if isinstance(value, str) else ""


OPTIMIZER = group(OptimizerConfig, "{'lr': 0.0001}", _of_optimizer)


LR_SCHEDULE = group(LRScheduleConfig, "{'name': 'linear'}", _of_lr_schedule)


SEED = integer(0, 2**32 - 1)
"""A seed that the generators of both numpy and torch accept."""

MAX_EPOCHS = 100
"""The default of the Trainer's ``max_epochs``: enough for ``patience`` to end a stage, as it should."""


def resolve_mode(monitor: str, mode: str) -> str:
    """Return ``min`` or ``max``; ``auto`` is decided by the name of the monitor.

    Raises:
        InputError: ``mode`` is none of these, or it is ``auto`` and the name does not say which values are better.
    """
    if mode not in ("auto", "min", "max"):
        raise InputError(f"mode is {mode!r}: it must be 'auto', 'min' or 'max'.")
    known = better(monitor)
    resolved = known if mode == "auto" else mode
    if known is not None and resolved != known:
        from gradual.logging import say_once  # imports lightning

        found = {"min": "lowest", "max": "highest"}
        say_once(
            logging.WARNING,
            f"mode is '{mode}', so the {found[mode]} '{monitor}' counts as the best one, though by its name the "
            f"{found[known]} should be: leave mode out, unless that is meant.",
        )
    if resolved is None:
        raise InputError(
            f"The name of the monitor, '{monitor}', does not say which values are better: correct it, or set mode to "
            "'min' (lower is better) or 'max' (higher is better)."
        )
    return resolved


@dataclass(frozen=True)
class CollapseConfig:
    """What to do when a stage collapses at its start: restart from its starting weights with lower learning rates.

    Attributes:
        attempts: Maximum number of attempts at a stage; 1 ends a path at a collapse, 0 watches for none.
        factor: Factor by which each further attempt lowers all learning rates.
        ratio: A score this many times below the parent stage's, or a loss this many times above it, is a collapse.
        scores: Scores to watch besides the monitor, for which higher is better; training scores (``train/accuracy``)
            must be logged per epoch. None for the validation scores with accuracy, acc or f1 in their names.
    """

    attempts: int = 3
    factor: float = 0.5
    ratio: float = 10.0
    scores: list[str] | None = None

    def __post_init__(self) -> None:
        accepted = {"attempts": integer(0), "factor": number(above=0, below=1), "ratio": number(above=1)}
        check_fields(self, "collapse.{}", **accepted)
        for name in self.scores or ():
            if not str(name).startswith(("val/", "val_", "train/", "train_")):
                raise InputError(f"collapse.scores holds {name!r}: it must hold names such as val/accuracy.")


@dataclass(frozen=True)
class TrainSettings:
    """Settings of an experiment, which apply to every stage that does not override them.

    Attributes:
        monitor: Validation metric that decides when a stage has converged and which epoch is best.
        mode: Whether lower (``min``) or higher (``max``) values of the monitor are better. ``auto`` decides by
            its name: lower for losses and errors; higher for accuracy, F1, BLEU and the like, also of a label or a type
            (``val/f1/error``).
        patience: Number of validations without improvement after which a stage has converged.
        min_delta: Minimum change of the monitor that counts as an improvement.
        optimizer: The optimizer; if it is not set, the module's own ``configure_optimizers`` is used.
        lr_schedule: The learning-rate schedule; it needs ``optimizer``.
        weight_averaging: Decay of an exponential moving average of the weights, e.g. 0.999. Each stage then validates,
            saves and carries forward the average instead of the weights themselves. None for no average.
        smoothing: Number of validations to average the monitor over, for convergence and the best epoch; a stage has no
            best epoch before it has had that many. None for no smoothing.
        collapse: What to do when a stage collapses at its start.
        checkpoint_every: Minutes of training between two checkpoints to resume from; epochs end with one, too, unless
            they are so short that writing it would take long in comparison.
        seed: Seed of the samples, the order of examples, and dropout.
    """

    monitor: str = "val/loss"
    mode: str = "auto"
    patience: int = 5
    min_delta: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr_schedule: LRScheduleConfig = field(default_factory=LRScheduleConfig)
    weight_averaging: float | None = None
    smoothing: int | None = None
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
    checkpoint_every: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            patience=integer(0),
            min_delta=number(0),
            optimizer=OPTIMIZER,
            lr_schedule=LR_SCHEDULE,
            weight_averaging=number(0, below=1),
            smoothing=integer(1),
            collapse=group(CollapseConfig, "{'attempts': 3}"),
            checkpoint_every=number(0),
            seed=SEED,
        )
        object.__setattr__(self, "mode", resolve_mode(self.monitor, self.mode))

    def to_plain(self) -> dict[str, Any]:
        """The settings as plain data, without those that are not set or do not affect results."""
        is_default = self.optimizer.state == "fresh"
        plain = as_plain(replace(self, optimizer=replace(self.optimizer, state=None)) if is_default else self)
        del plain["checkpoint_every"]
        return plain

    def optimizer_of(self, stage: StageOverrides) -> OptimizerConfig:
        """The optimizer of ``stage``: these settings with its overrides."""
        return merge(self.optimizer, stage.optimizer)

    def lr_schedule_of(self, stage: StageOverrides) -> LRScheduleConfig:
        """The learning-rate schedule of ``stage``: these settings with its overrides."""
        return merge(self.lr_schedule, stage.lr_schedule)

    def resolve(self, stage: StageOverrides) -> dict[str, Any]:
        """All settings that ``stage`` trains with, as plain data: these with its overrides.

        Raises:
            InputError: There are settings for an optimizer, but no optimizer.
        """
        optimizer = self.optimizer_of(stage)
        plain, lr_schedule = as_plain(optimizer), as_plain(self.lr_schedule_of(stage))
        if not is_configured(optimizer):
            unused = [f"optimizer.{name}" for name in plain if name not in USED_BY_OWN_OPTIMIZER]
            unused += [f"lr_schedule.{name}" for name in lr_schedule]
            if unused:
                raise InputError(
                    f"{' and '.join(unused)} would do nothing, because the module's own configure_optimizers makes the "
                    "optimizer: set optimizer.lr or optimizer.class_path as well."
                )
        overrides = stage.overrides()
        for group, name, default in ((overrides, "adapter", "continue"), (plain, "state", "fresh")):
            if group.get(name) == default:
                del group[name]
        return {**self.to_plain(), **overrides, "optimizer": plain, "lr_schedule": lr_schedule}
