"""Strategies to compare: named paths of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from gradual.checks import did_you_mean, found
from gradual.config_dataclasses import from_mapping
from gradual.errors import InputError
from gradual.experiment.final import LAST, Final
from gradual.schedule import Schedule
from gradual.settings import StageOverrides

IN_DOMAIN_ONLY, MIXED, ONE_STAGE, GRADUAL = "in-domain only", "mixed", "one-stage", "gradual"
PAPER_STRATEGIES = (IN_DOMAIN_ONLY, MIXED, ONE_STAGE, GRADUAL)

_KEYS = ("schedule", "data", "final", *(each.name for each in fields(StageOverrides)))


@dataclass(frozen=True)
class Control:
    """What makes a strategy a control: it copies the training of another one.

    Attributes:
        of: The strategy that it copies.
        kind: What it does differently, by its name in ``gradual.experiment.controls``.
        copies: For each of its stages, the stages (from 0) of the other strategy whose steps it takes, one after the
            other in a single stage; empty for a stage that the two share.
        explanation: What it does differently, in a clause.
    """

    of: str
    kind: str
    copies: tuple[tuple[int, ...], ...]
    explanation: str


@dataclass(frozen=True)
class Strategy:
    """A path of stages.

    Attributes:
        schedule: The stages.
        data: Arguments of the data module that differ from the experiment's, e.g. another pool.
        also: Other strategies that take this same path and get no row of their own.
        control: What makes it a control of another strategy; None if it is none.
        final: What its result is: ``last``, ``best``, ``average`` or ``{"average": 2}``; None for the experiment's.
    """

    schedule: Schedule
    data: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    control: Control | None = None
    final: Final | None = None

    def __post_init__(self) -> None:
        if self.final is not None:
            object.__setattr__(self, "final", Final.read(self.final))

    def to_plain(self) -> dict[str, Any]:
        """The strategy as plain data."""
        plain: dict[str, Any] = {"schedule": self.schedule.to_list()}
        plain |= {"data": self.data} if self.data else {}
        plain |= {"also": list(self.also)} if self.also else {}
        plain |= {"final": self.final.to_plain()} if self.final and self.final != LAST else {}
        return plain | ({"control": asdict(self.control)} if self.control else {})


def default_strategies(schedule: Schedule) -> dict[str, Strategy]:
    """The paper's four strategies, without duplicates: in a schedule of one or two stages, one-stage is gradual."""
    four = paper_strategies(schedule)
    kept: dict[str, Strategy] = {}
    for name in (IN_DOMAIN_ONLY, GRADUAL, MIXED, ONE_STAGE):  # the earlier of two names for one path is kept
        same = next((other for other in kept if kept[other].schedule == four[name].schedule), None)
        if same is None:
            kept[name] = four[name]
        else:
            kept[same] = replace(kept[same], also=(*kept[same].also, name))
    return {name: kept[name] for name in four if name in kept}


def paper_strategies(schedule: Schedule) -> dict[str, Strategy]:
    """The paper's four strategies, derived from the schedule of gradual fine-tuning.

    In-domain only and mixed have a single stage, which trains with the overrides of the schedule's first one;
    one-stage fine-tuning takes the schedule's first stage and its last, if there are two.
    """
    first, last = schedule[0], schedule[-1]
    ends = [first, last] if len(schedule) > 1 else [first]
    paths = {IN_DOMAIN_ONLY: [replace(first, amount=0)], MIXED: [first], ONE_STAGE: ends, GRADUAL: [*schedule]}
    return {name: Strategy(schedule.with_stages(path)) for name, path in paths.items()}


def parse_strategies(
    given: Mapping[str, Any] | Sequence[str] | None, schedule: Schedule, defined: Mapping[str, Any] | None = None
) -> dict[str, Strategy]:
    """The strategies that a configuration, a command line or a Python call describes.

    A strategy is described by one of these:

    - a mapping of overrides, such as ``{"max_epochs": 16}`` or ``{}``: one of the paper's four, by its name, with the
      amounts of ``schedule``. The overrides apply to all of its stages, over anything that ``schedule`` says of them.
    - a list of stages: a path of its own, with the ``later_stages`` and ``last_stage`` of ``schedule``. (A ``Schedule``
      is used as it is.)
    - a mapping with such a list under ``schedule`` beside the overrides; a stage's own overrides in it take precedence.

    Under ``data`` a mapping may have arguments of the data module that differ from the experiment's, and under
    ``final`` what the result of the path is.

    Args:
        given: Strategies by name, a list of names to select, or None for the paper's four without duplicates.
        schedule: The experiment's schedule.
        defined: The strategies that names select from; None for the paper's four.

    Raises:
        InputError: There is no strategy of that name, or a description is none of the above.
    """
    if given is None:
        return default_strategies(schedule)
    if isinstance(given, Mapping):
        if not given:
            raise InputError("strategies is empty: it must have at least one strategy.")
        for name in given:
            # it also names a folder, for TensorBoard
            if not str(name).strip() or not str(name).isprintable() or str(name) in (".", ".."):
                raise InputError(f"There is a strategy called {str(name)!r}: a name must be printable and not '..'.")
        return {str(name): _strategy(str(name), value, schedule) for name, value in given.items()}
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"strategies is {found(given)}: it must be a mapping by name, or a list of names.")
    available = paper_strategies(schedule) if defined is None else parse_strategies(defined, schedule)
    for name in names:
        if name not in available:
            hint = did_you_mean(name, available)
            raise InputError(f"There is no strategy '{name}'; the strategies are {', '.join(available)}.{hint}")
    return {name: available[name] for name in names}


def follows_schedule(described: Any) -> bool:
    """Whether a strategy takes its amounts from the experiment's schedule, as a mapping without ``schedule`` does."""
    return isinstance(described, Mapping) and "schedule" not in described


def _strategy(name: str, described: Any, schedule: Schedule) -> Strategy:
    if isinstance(described, Strategy):
        return described
    where = f"The strategy '{name}'"
    if described is None:
        raise InputError(f"{where} is empty: write {{}} to follow the schedule without overrides.")
    parts = dict(described) if isinstance(described, Mapping) else {"schedule": described}
    for key in parts:
        if key not in _KEYS:
            raise InputError(
                f"{where} has no setting '{key}'; its settings are {', '.join(_KEYS)}.{did_you_mean(key, _KEYS)}"
            )
    own, data = parts.pop("schedule", None), parts.pop("data", None) or {}
    try:
        final = None if parts.get("final") is None else Final.read(parts["final"])
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    parts.pop("final", None)
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: data is {found(data)}: it must be a mapping of arguments of the data module.")
    overrides = from_mapping(StageOverrides, parts, where)
    if follows_schedule(described):
        return Strategy(_followed_path(name, overrides, schedule), dict(data), final=final)
    try:
        return Strategy(_own_path(own, overrides, schedule), dict(data), final=final)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _followed_path(name: str, overrides: StageOverrides, schedule: Schedule) -> Schedule:
    if name not in PAPER_STRATEGIES:
        raise InputError(
            f"The strategy '{name}' has no schedule, and its name is not one that follows the experiment's: "
            f"{', '.join(PAPER_STRATEGIES)}.{did_you_mean(name, PAPER_STRATEGIES)}"
        )
    return Schedule(stage.with_overrides(overrides) for stage in paper_strategies(schedule)[name].schedule)


def _own_path(own: Any, overrides: StageOverrides, schedule: Schedule) -> Schedule:
    stages = [stage.with_defaults(overrides) for stage in Schedule(own)]
    return Schedule(stages) if isinstance(own, Schedule) else schedule.with_stages(stages)
