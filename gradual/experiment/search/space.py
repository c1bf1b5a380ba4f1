"""The paths that a search chooses from: falling amounts of a grid, then 0, each stage with a factor of its rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

from gradual.config_dataclasses import merge
from gradual.errors import InputError
from gradual.experiment.search.settings import SearchConfig
from gradual.schedule import Schedule, Stage
from gradual.settings import TrainSettings


@dataclass(frozen=True)
class Choice:
    """One stage of a path.

    Attributes:
        amount: Its out-of-domain examples; 0 ends the path.
        factor: The factor of its learning rates.
    """

    amount: int
    factor: float = 1.0


class Suggests(Protocol):
    """What makes the choices: a trial of Optuna."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Choose an integer."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of several values."""


class Space:
    """The paths to choose from.

    The first amount is any of the grid. Each further stage may end the path, with no out-of-domain data, or go down to
    any smaller amount of the grid; the last stage that is allowed ends it.

    Args:
        schedule: The schedule of the configuration.
        given: Its amounts as numbers, in examples or tokens.
        pool: All that the pool has, in the same unit.
        config: The settings of the search.
        defaults: The settings of stages that do not override them.

    Attributes:
        amounts: The grid, falling.
        given: The amounts of the schedule of the configuration as numbers.

    Raises:
        InputError: The schedule has amounts by source, or begins without out-of-domain data.
    """

    def __init__(
        self, schedule: Schedule, given: Sequence[int], pool: int, config: SearchConfig, defaults: TrainSettings
    ):
        self._schedule, self._config, self._defaults = schedule, config, defaults
        if any(isinstance(stage.amount, dict) for stage in schedule):
            raise InputError(
                "The search chooses amounts in all, drawn over the sources together: the schedule must have no amounts "
                "by source."
            )
        if not given[0]:
            raise InputError(
                "The schedule begins with 0 out-of-domain examples, but the search takes its first amount as the unit "
                "of the amounts that it tries: give a schedule such as [0.5, 0]."
            )
        grid = {round(multiple * given[0]) for multiple in config.multiples} | set(given)
        self.amounts = sorted((amount for amount in grid if 0 < amount <= pool), reverse=True)
        self._most = max(config.max_stages, len(schedule))
        self._factors = list(dict.fromkeys(config.lr_scales))
        self.given = list(given)
        self._schedules: dict[tuple[Choice, ...], Schedule] = {}

    def choose(self, path: Sequence[Choice], suggests: Suggests) -> Choice:
        """Choose the stage that follows after ``path``, which has not ended."""
        k = len(path) + 1
        factors, ends, below = self._next(path)
        factor = float(suggests.suggest_categorical(f"lr_scale {k}", factors)) if len(factors) > 1 else factors[0]
        end = suggests.suggest_categorical(f"end {k}", ends) if len(ends) > 1 else ends[0]
        if end:
            return Choice(0, factor)
        return Choice(self.amounts[suggests.suggest_int(f"amount {k}", below, len(self.amounts) - 1)], factor)

    def step(self, amount: int) -> int:
        """The step of a pruner at which a stage with an amount is compared: with stages of the same amount alone.

        Of two paths, the one that begins with more out-of-domain data is often worse after as many stages, and better
        at its end.
        """
        return self.amounts.index(amount) if amount else len(self.amounts)

    def choices(self, path: Sequence[Choice]) -> dict[Choice, dict[str, Any]]:
        """All that may follow after ``path``, which has not ended, each with the suggestions that lead to it."""
        k = len(path) + 1
        factors, ends, below = self._next(path)
        amounts = range(below, len(self.amounts))
        found: dict[Choice, dict[str, Any]] = {}
        for factor, end in product(factors, ends):
            suggested = {f"lr_scale {k}": factor, f"end {k}": end}
            if end:
                found[Choice(0, factor)] = suggested
            else:
                found |= {Choice(self.amounts[at], factor): suggested | {f"amount {k}": at} for at in amounts}
        return found

    def _next(self, path: Sequence[Choice]) -> tuple[list[float], list[bool], int]:
        """The factors of the next stage, whether it may end the path, and where its smaller amounts begin."""
        if not path:
            return [1.0], [False], 0
        below = self.amounts.index(path[-1].amount) + 1
        must_end = below == len(self.amounts) or len(path) + 1 == self._most
        return self._factors, [True] if must_end else [True, False], below

    def default(self) -> dict[str, Any] | None:
        """The choices that lead to the schedule of the configuration; None where none do.

        None do where amounts repeat, the last one is not 0, or a single stage has overrides of its own.
        """
        path = [Choice(amount) for amount in self.given]
        falls = len(set(self.given)) == len(path) > 1 and path[-1].amount == 0
        if not falls or self.schedule(path).to_list() != self.counted().to_list():
            return None
        choices: dict[str, Any] = {"amount 1": self.amounts.index(path[0].amount)}
        for k, stage in enumerate(path[1:], start=2):
            choices |= {f"lr_scale {k}": 1.0, f"end {k}": stage.amount == 0}
            choices |= {f"amount {k}": self.amounts.index(stage.amount)} if stage.amount else {}
        return choices

    def schedule(self, path: Sequence[Choice]) -> Schedule:
        """The schedule of a path; one that has not ended is given its end, so that its stages are what they will be."""
        key = tuple(path)
        if key not in self._schedules:
            self._schedules[key] = self._made(key)
        return self._schedules[key]

    def _made(self, path: Sequence[Choice]) -> Schedule:
        whole = [*path, *([] if path and not path[-1].amount else [Choice(0)])]
        plain = self._schedule.with_stages(choice.amount for choice in whole)
        return self._schedule.with_stages(
            self._scaled(stage, choice.factor) if choice.factor != 1 else choice.amount
            for stage, choice in zip(plain, whole)
        )

    def _scaled(self, stage: Stage, factor: float) -> Stage:
        before = merge(self._defaults.optimizer, stage.optimizer).lr_scale
        own = Stage(stage.amount)
        return replace(own, optimizer=replace(own.optimizer, lr_scale=factor * (1.0 if before is None else before)))

    def counted(self) -> Schedule:
        """The schedule of the configuration with numbers of examples instead of fractions."""
        return Schedule(replace(stage, amount=count) for stage, count in zip(self._schedule, self.given))
