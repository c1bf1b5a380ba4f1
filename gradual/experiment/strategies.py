"""Strategies to compare: named paths of stages."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gradual.errors import InputError
from gradual.schedule import Schedule

IN_DOMAIN_ONLY, MIXED, ONE_STAGE, GRADUAL = "in-domain only", "mixed", "one-stage", "gradual"


@dataclass(frozen=True)
class Strategy:
    """A path of stages.

    Attributes:
        schedule: Its stages.
        data: Arguments of the data module that differ from the experiment's, e.g. another pool.
        also: Other strategies that are this path too, and have no row of their own.
    """

    schedule: Schedule
    data: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        plain: dict[str, Any] = {"schedule": self.schedule.to_list()}
        return plain | ({"data": self.data} if self.data else {}) | ({"also": list(self.also)} if self.also else {})


def default_strategies(schedule: Schedule) -> dict[str, Strategy]:
    """The paper's four, each path once: with a schedule of two stages, one-stage and gradual are one strategy."""
    four = paper_strategies(schedule)
    kept: dict[str, Strategy] = {}
    for name in (IN_DOMAIN_ONLY, GRADUAL, MIXED, ONE_STAGE):  # of two names for one path the earlier one stays
        same = next((other for other in kept if kept[other].schedule == four[name].schedule), None)
        if same is None:
            kept[name] = four[name]
        else:
            kept[same] = replace(kept[same], also=(*kept[same].also, name))
    return {name: kept[name] for name in four if name in kept}


def paper_strategies(schedule: Schedule) -> dict[str, Strategy]:
    """The paper's four, derived from the schedule of gradual fine-tuning.

    In-domain only and mixed are single stages, so they train as the schedule's first stage does; one-stage fine-tuning
    is its first stage and its last.
    """
    first, last = schedule[0], schedule[-1]
    paths = {IN_DOMAIN_ONLY: [replace(first, amount=0)], MIXED: [first], ONE_STAGE: [first, last], GRADUAL: [*schedule]}
    return {name: Strategy(schedule.with_stages(path)) for name, path in paths.items()}


def parse_strategies(
    given: Mapping[str, Any] | Sequence[str] | None, schedule: Schedule, defined: Mapping[str, Any] | None = None
) -> dict[str, Strategy]:
    """The strategies that a configuration or a command line names.

    Args:
        given: A mapping from name to schedule (or to ``{schedule: ..., data: {...}}``), a list of names to select, or
            None for the paper's four, each path once.
        schedule: The experiment's schedule; what it says of later stages and the last one holds for strategies that are
            given as lists, while one that is a ``Schedule`` is taken as it is.
        defined: What names are selected from; None for the paper's four.

    Raises:
        InputError: A name that is not defined, or something that is neither schedule nor strategy.
    """
    if given is None:
        return default_strategies(schedule)
    if isinstance(given, Mapping):
        if not given:
            raise InputError("strategies is empty: give a mapping from name to schedule.")
        for name in given:
            # it also names a folder, for TensorBoard
            if not str(name).strip() or not str(name).isprintable() or str(name) in (".", ".."):
                raise InputError(f"There is a strategy called {str(name)!r}; accepted is a name that can be printed.")
        return {str(name): _strategy(str(name), value, schedule) for name, value in given.items()}
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"strategies is {given!r}: accepted is a mapping from name to schedule, or a list of names.")
    available = paper_strategies(schedule) if defined is None else parse_strategies(defined, schedule)
    for name in names:
        if name not in available:
            raise InputError(f"There is no strategy '{name}'; accepted are {', '.join(available)}.")
    return {name: available[name] for name in names}


def same_paths(paths: Mapping[str, Sequence[Hashable]], also: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each path that several strategies have.

    Args:
        paths: The stages of each strategy; an empty path is one that is not known.
        also: By strategy, the names that are the same path and have no row of their own.
    """
    sentences = [
        f"With this schedule, {_listed([*names, name])} are the same path: the row {name} stands for "
        f"{'both' if len(names) == 1 else 'all of them'}."
        for name, names in also.items()
        if names
    ]
    by_path: dict[tuple[Hashable, ...], list[str]] = {}
    for name, path in paths.items():
        by_path.setdefault(tuple(path), []).append(name)
    return sentences + [
        f"{_listed(names)} are the same path: its stages are trained once, and the scores are the same."
        for path, names in by_path.items()
        if path and len(names) > 1
    ]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _strategy(name: str, value: Any, schedule: Schedule) -> Strategy:
    if isinstance(value, Strategy):
        return value
    if isinstance(value, Mapping):
        unknown = set(value) - {"schedule", "data"}
        if unknown or "schedule" not in value or not isinstance(value.get("data", {}), Mapping):
            raise InputError(
                f"The strategy '{name}' is {dict(value)!r}: accepted are a schedule, or schedule and data."
            )
        return Strategy(_schedule(name, value["schedule"], schedule), dict(value.get("data", {})))
    return Strategy(_schedule(name, value, schedule))


def _schedule(name: str, value: Any, schedule: Schedule) -> Schedule:
    try:
        return value if isinstance(value, Schedule) else schedule.with_stages(value)
    except InputError as error:
        raise InputError(f"The strategy '{name}': {error}") from error
