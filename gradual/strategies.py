"""Strategies to compare: named paths of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """

    schedule: Schedule
    data: dict[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"schedule": self.schedule.to_list(), **({"data": self.data} if self.data else {})}


def default_strategies(schedule: Schedule) -> dict[str, Strategy]:
    """The paper's four, derived from the schedule of gradual fine-tuning.

    In-domain only and mixed are single stages, so they train as the schedule's first stage does; one-stage fine-tuning
    is its first stage and its last.
    """
    first, last = schedule[0], schedule[-1]
    paths = {IN_DOMAIN_ONLY: [replace(first, amount=0)], MIXED: [first], ONE_STAGE: [first, last], GRADUAL: [*schedule]}
    return {name: Strategy(schedule.alike(path)) for name, path in paths.items()}


def parse_strategies(
    given: Mapping[str, Any] | Sequence[str] | None, schedule: Schedule, defined: Mapping[str, Any] | None = None
) -> dict[str, Strategy]:
    """The strategies that a configuration or a command line names.

    Args:
        given: A mapping from name to schedule (or to ``{schedule: ..., data: {...}}``), a list of names to select, or
            None for the paper's four.
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
    available = parse_strategies(defined, schedule)
    for name in names:
        if name not in available:
            raise InputError(f"There is no strategy '{name}'; accepted are {', '.join(available)}.")
    return {name: available[name] for name in names}


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
        return value if isinstance(value, Schedule) else schedule.alike(value)
    except InputError as error:
        raise InputError(f"The strategy '{name}': {error}") from error
