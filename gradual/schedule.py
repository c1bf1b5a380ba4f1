"""What is trained, stage by stage: amounts of out-of-domain data and what each stage overrides.

Nothing here knows torch or files; numbers come in, checked numbers go out.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar, get_type_hints

from gradual.arguments import Accepted, check, check_fields, did_you_mean, integer, is_listed, number, of_hint
from gradual.errors import InputError

Amount = int | float
"""Out-of-domain examples: a count (an int, or a whole float above 1) or a fraction of the pool (a float, 0 to 1)."""

SCHEDULE = Accepted(
    "a list of amounts, such as [4000, 2000, 500, 0]", lambda value: None if is_listed(value) else _of_schedule(value)
)
"""What a schedule is made of; its elements are checked by ``Schedule``."""


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer as configuration; what is None is left to the experiment's default.

    Attributes:
        class_path: Class of the optimizer, e.g. ``torch.optim.AdamW`` (the default) or ``gradual.optim.BertAdam``.
        lr: Learning rate of the parameters that no pattern of ``lr_by_name`` matches.
        lr_by_name: Learning rate by parameter-name pattern, e.g. ``{"model.encoder.*": 1e-5}``; the first match holds.
        lr_scale: Factor on all learning rates, also on those of a module's own ``configure_optimizers``.
        weight_decay: Weight decay of the parameters that no pattern of ``weight_decay_by_name`` matches.
        weight_decay_by_name: Weight decay by parameter-name pattern, e.g. ``{"*.bias": 0}``; the first match holds.
        init_args: Further arguments of the class, e.g. ``{"betas": [0.9, 0.98]}``.
    """

    class_path: str | None = None
    lr: float | None = None
    lr_by_name: dict[str, float] | None = None
    lr_scale: float | None = None
    weight_decay: float | None = None
    weight_decay_by_name: dict[str, float] | None = None
    init_args: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        by_name = dict.fromkeys(("lr_by_name", "weight_decay_by_name"), of_hint(dict[str, Any]))
        check_fields(self, "optimizer.{}", lr=number(0), lr_scale=number(0), weight_decay=number(0), **by_name)
        for name in by_name:
            values = getattr(self, name)
            if values is not None:
                rates = {key: number(0).check(f"optimizer.{name}['{key}']", value) for key, value in values.items()}
                object.__setattr__(self, name, rates)


def is_configured(config: OptimizerConfig) -> bool:
    """Whether ``config`` names an optimizer; ``lr_scale`` alone leaves a module's own in place."""
    return config.class_path is not None or config.lr is not None or bool(config.lr_by_name)


@dataclass(frozen=True)
class LRScheduleConfig:
    """A learning-rate schedule as configuration; what is None is left to the experiment's default.

    Attributes:
        name: A schedule of ``transformers.get_scheduler``: ``constant`` (the default), ``linear``, ``cosine``, ...;
            those that decay reach their end with the stage's last planned step (``max_epochs``).
        warmup: Steps of linear warm-up (an int), or their fraction of the planned steps (a float from 0 to 1).
    """

    name: str | None = None
    warmup: int | float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "lr_schedule.{}")
        if self.warmup is not None:
            number(0).check("lr_schedule.warmup", self.warmup)
        if isinstance(self.warmup, float) and self.warmup > 1 and not self.warmup.is_integer():
            raise InputError(
                f"lr_schedule.warmup is {self.warmup}: give a whole number of steps, or a fraction from 0 to 1 of the "
                "planned steps."
            )


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """What a stage does differently from the experiment's default.

    Attributes:
        optimizer: Overrides of the optimizer, merged field by field (and pattern by pattern) into the default's.
        lr_schedule: Overrides of the learning-rate schedule, merged likewise.
        max_epochs: At most this many epochs.
        patience: Validations without improvement after which the stage has converged.
        batch_size: Training examples in a batch, per process.
        gradient_clip_val: Largest gradient norm (or value, as the Trainer's ``gradient_clip_algorithm`` says).
    """

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr_schedule: LRScheduleConfig = field(default_factory=LRScheduleConfig)
    max_epochs: int | None = None
    patience: int | None = None
    batch_size: int | None = None
    gradient_clip_val: float | None = None

    def __post_init__(self) -> None:
        accepted = {"max_epochs": integer(1), "patience": integer(0), "batch_size": integer(1)}
        check_fields(self, "{} of a stage", gradient_clip_val=number(0), **accepted)

    def overrides(self) -> dict[str, Any]:
        """What is set, as plain data: ``{}`` where all follows the defaults."""
        return as_plain(self)


@dataclass(frozen=True)
class Stage(StageSettings):
    """One stage: an amount of out-of-domain data, and what this stage does differently from the experiment's default.

    Attributes:
        amount: Out-of-domain examples: a count, or a fraction (a float from 0 to 1) of the pool.
    """

    amount: Amount

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", check_amount(self.amount))
        super().__post_init__()

    def overrides(self) -> dict[str, Any]:
        """What this stage sets besides its amount, as plain data: ``{}`` where it follows the defaults."""
        return {name: value for name, value in as_plain(self).items() if name != "amount"}

    def over(self, settings: StageSettings) -> Stage:
        """This stage, with ``settings`` where it sets nothing itself."""
        return merge(Stage(self.amount, **vars(settings)), self)


class Schedule(Sequence[Stage]):
    """The stages in order, with non-increasing amounts (the paper's ``S``).

    ``Schedule([4000, 2000, 500, 0])`` is the short form; an element may also be a ``Stage`` or a mapping with a stage's
    fields, e.g. ``{"amount": 0, "optimizer": {"lr": 4e-5}}``.

    Args:
        stages: The stages; those of another schedule bring what it says of later ones and the last.
        later_stages: What all stages but the first do where they say nothing themselves, as ``StageSettings`` or a
            mapping of its fields, e.g. ``{"optimizer": {"lr_scale": 0.4}}``.
        last_stage: What the last of several stages does where it says nothing itself, e.g. the paper's
            ``{"optimizer": {"lr": 4e-5}}`` (Appendix A.2); before what ``later_stages`` says.

    Raises:
        InputError: No stage, an element that is no amount or stage, a negative amount, or amounts that rise. Amounts
            of both kinds, counts and fractions, are compared as soon as the size of the pool is known (``amounts``).
    """

    _later: StageSettings
    _last: StageSettings

    def __init__(
        self,
        stages: Iterable[Amount | Stage | Mapping[str, Any]],
        later_stages: StageSettings | Mapping[str, Any] | None = None,
        last_stage: StageSettings | Mapping[str, Any] | None = None,
    ):
        SCHEDULE.check("The schedule", stages)
        if isinstance(stages, Schedule):
            later_stages = stages._later if later_stages is None else later_stages
            last_stage = stages._last if last_stage is None else last_stage
        self._later, self._last = _settings("later_stages", later_stages), _settings("last_stage", last_stage)
        listed = [_stage(element, position) for position, element in enumerate(stages, start=1)]
        if not listed:
            raise InputError("The schedule is empty: give at least one amount, such as [0] for in-domain data only.")
        if len(listed) > 1:
            listed[-1] = listed[-1].over(self._last)
        self._stages = (listed[0], *(stage.over(self._later) for stage in listed[1:]))
        for kind in (int, float):
            _check_falls([stage.amount for stage in self._stages if type(stage.amount) is kind])

    def __len__(self) -> int:
        return len(self._stages)

    def __getitem__(self, index: Any) -> Any:
        return self._stages[index]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages)

    def __eq__(self, other: object) -> bool:
        # as text: 1 is an example and 1.0 the whole pool, and the order of patterns says which one holds
        return isinstance(other, Schedule) and str(self.to_list()) == str(other.to_list())

    def __hash__(self) -> int:
        return hash(str(self.to_list()))

    def __repr__(self) -> str:
        return f"Schedule({self.to_list()})"

    def alike(self, stages: Iterable[Amount | Stage | Mapping[str, Any]]) -> Schedule:
        """Another schedule, whose later stages and last one follow the same settings."""
        return Schedule(stages, self._later, self._last)

    def amounts(self, pool_size: int) -> list[int]:
        """Each stage's number of out-of-domain examples, drawn from a pool of ``pool_size``.

        Raises:
            InputError: An amount is more than the pool holds, or the amounts rise.
        """
        counts = []
        for position, stage in enumerate(self._stages, start=1):
            amount = stage.amount
            count = round(amount * pool_size) if isinstance(amount, float) else amount
            if count > pool_size:
                raise InputError(
                    f"Stage {position} of the schedule asks for {count} out-of-domain examples, but the pool holds "
                    f"{pool_size}: give at most {pool_size}, or a fraction of the pool such as 1.0."
                )
            counts.append(count)
        _check_falls(counts)
        return counts

    def to_list(self) -> list[Any]:
        """The short form, as plain data: a number for a stage that overrides nothing, else a mapping."""
        return [{"amount": stage.amount, **stage.overrides()} if stage.overrides() else stage.amount for stage in self]


def remark_on_end(amounts: Sequence[int]) -> str:
    """What to say of amounts whose last one is not 0; nothing of others."""
    if not amounts[-1]:
        return ""
    return f"The schedule ends with {amounts[-1]} out-of-domain examples: the paper's last stage has 0."


Config = TypeVar("Config", OptimizerConfig, LRScheduleConfig, Stage)


def merge(default: Config, override: Config) -> Config:
    """``default`` with every field that ``override`` sets; mappings are merged, the override's entries first.

    Fields that are configurations themselves are merged likewise.
    """
    changes: dict[str, Any] = {}
    for config_field in fields(override):
        value, old = getattr(override, config_field.name), getattr(default, config_field.name)
        if isinstance(value, dict):
            value = {**value, **{key: entry for key, entry in (old or {}).items() if key not in value}}
        elif is_dataclass(value):
            value = merge(old, value)
        if value is not None:
            changes[config_field.name] = value
    return replace(default, **changes)


def as_plain(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that are set, as plain data that YAML and JSON can hold."""
    plain = {}
    for config_field in fields(config):
        value = getattr(config, config_field.name)
        value = as_plain(value) if is_dataclass(value) else value
        if value is not None and value != {}:
            plain[config_field.name] = value
    return plain


def from_mapping(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A configuration dataclass from a mapping, nested ones included.

    Raises:
        InputError: A name that is no field (with the closest one), or a value of another type; ``where`` says in what.
    """
    hints = get_type_hints(cls)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            hint = did_you_mean(name, hints)
            raise InputError(f"{where} has no setting '{name}'; accepted are {', '.join(hints)}.{hint}")
        if is_dataclass(hints[name]) and value is None:
            continue  # a YAML key with nothing behind it
        if is_dataclass(hints[name]) and isinstance(value, Mapping):
            value = from_mapping(hints[name], value, f"{where}, {name}")
        arguments[name] = _as_type(value, hints[name], f"{where}: {name}")
    try:
        return cls(**arguments)
    except TypeError as error:
        raise InputError(f"{where} lacks a setting: {error}.") from error


def check_amount(amount: Any) -> Amount:
    """An amount of out-of-domain data: an int is a count, a float from 0 to 1 a fraction of the pool.

    Raises:
        InputError: Not a number, negative, not finite, or a fraction above 1 that is not a whole number.
    """
    if isinstance(amount, bool) or not isinstance(amount, numbers.Real):
        raise InputError(f"The schedule holds {amount!r}: accepted are numbers (counts, or fractions from 0 to 1).")
    number: Amount = int(amount) if isinstance(amount, numbers.Integral) else float(amount)
    if not math.isfinite(number) or number < 0:
        raise InputError(f"The schedule holds {number}: an amount of out-of-domain data is finite and not negative.")
    if isinstance(number, float) and number > 1:
        if not number.is_integer():
            raise InputError(f"The schedule holds {number}: give a whole count, or a fraction of the pool from 0 to 1.")
        return int(number)
    return number


def _of_schedule(value: Any) -> str:
    """What to write instead of an amount or the text of a list."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return f"write [{value}]"
    return "write it without quotation marks" if isinstance(value, str) and value.strip().startswith("[") else ""


def _stage(element: Any, position: int) -> Stage:
    if isinstance(element, Stage):
        return element
    if isinstance(element, Mapping):
        if "amount" not in element:
            raise InputError(f"Stage {position} of the schedule has no 'amount' of out-of-domain data.")
        return from_mapping(Stage, element, f"Stage {position} of the schedule")
    return Stage(check_amount(element))


def _settings(name: str, given: StageSettings | Mapping[str, Any] | None) -> StageSettings:
    if given is None:
        return StageSettings()
    if isinstance(given, Mapping):
        given = from_mapping(StageSettings, given, name)
    if not isinstance(given, StageSettings) or isinstance(given, Stage):
        raise InputError(f"{name} is {given!r}: accepted is a mapping of settings, such as {{max_epochs: 8}}.")
    return given


def _check_falls(amounts: Sequence[Amount]) -> None:
    for before, after in pairwise(amounts):
        if after > before:
            raise InputError(
                f"The schedule rises from {before} to {after}: each stage samples from the one before it, so the "
                "amounts may only fall or stay."
            )


def _as_type(value: Any, hint: Any, where: str) -> Any:
    """``value`` checked against a field's type; YAML 1.1 reads ``1e-4`` as text, so such text becomes a number."""
    accepted = getattr(hint, "__args__", (hint,))
    if isinstance(value, str) and float in accepted and str not in accepted:
        return _number(value, int in accepted, where)
    if isinstance(value, Mapping) and dict[str, float] in accepted:
        return {
            key: _number(text, False, f"{where}['{key}']") if isinstance(text, str) else text
            for key, text in value.items()
        }
    return check(where, value, hint)


def _number(text: str, may_be_int: bool, where: str) -> int | float:
    for kind in (int, float) if may_be_int else (float,):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"{where} is {text!r}: accepted is a number.")
