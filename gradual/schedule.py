"""Stages and schedules: how much out-of-domain data each stage trains on, and which settings it overrides.

This module knows neither torch nor files.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from gradual.checks import Accepted, is_listed, is_number
from gradual.config_dataclasses import as_plain, from_mapping, merge
from gradual.errors import InputError, did_you_mean
from gradual.settings import StageOverrides

Number = int | float
"""A number of out-of-domain examples (an int, or a whole float above 1) or a fraction of the pool (a float, 0 to 1)."""
Amount = Number | dict[str, Number]
"""A number or a fraction of all out-of-domain examples, or one for each source, by name; none of sources left out."""

SCHEDULE = Accepted(
    "a list of amounts, such as [4000, 2000, 500, 0]", lambda value: None if is_listed(value) else _advice(value)
)
"""Anything that ``Schedule`` can be made of; ``Schedule`` checks the elements."""


@dataclass(frozen=True)
class Stage(StageOverrides):
    """One stage: an amount of out-of-domain data and the settings that this stage overrides.

    Attributes:
        amount: The number of out-of-domain examples, or a fraction (a float from 0 to 1) of the pool; or, for a pool
            with named sources, a mapping with a number or a fraction for each source, such as ``{"books": 500}``.
    """

    amount: Amount

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", check_amount(self.amount))
        super().__post_init__()

    def overrides(self) -> dict[str, Any]:
        """The settings that this stage overrides, as plain data; ``{}`` if none."""
        return {name: value for name, value in as_plain(self).items() if name != "amount"}

    def with_defaults(self, overrides: StageOverrides) -> Stage:
        """This stage with ``overrides`` added; its own take precedence."""
        return merge(Stage(self.amount, **vars(overrides)), self)

    def with_overrides(self, overrides: StageOverrides) -> Stage:
        """This stage with ``overrides`` added, which take precedence over its own."""
        return merge(self, Stage(self.amount, **vars(overrides)))


_OF_STAGES = {field.name for field in fields(Stage)}


class Schedule(Sequence[Stage]):
    """The stages in order, with non-increasing amounts (the paper's ``S``).

    ``Schedule([4000, 2000, 500, 0])`` is the short form; an element may also be a mapping of amounts by source
    (``{"books": 500, "dvd": 100}``), a ``Stage``, or a mapping with the fields of one, e.g.
    ``{"amount": 0, "optimizer": {"lr": 4e-5}}``. A stage's own overrides take precedence over ``last_stage``, and
    ``last_stage`` over ``later_stages``.

    Args:
        stages: The stages. Another schedule passes its ``later_stages`` and ``last_stage`` on.
        later_stages: Overrides for every stage but the first, as ``StageOverrides`` or a mapping of its fields, e.g.
            ``{"optimizer": {"lr_scale": 0.4}}``.
        last_stage: Overrides for the last of several stages, e.g. the paper's ``{"optimizer": {"lr": 4e-5}}``
            (Appendix A.2).

    Raises:
        InputError: There is no stage, an element is neither an amount nor a stage, an amount is negative, or the
            amounts rise. Counts and fractions are compared once the size of the pool is known (``amounts``).
    """

    _later: StageOverrides
    _last: StageOverrides

    def __init__(
        self,
        stages: Iterable[Amount | Stage | Mapping[str, Any]],
        later_stages: StageOverrides | Mapping[str, Any] | None = None,
        last_stage: StageOverrides | Mapping[str, Any] | None = None,
    ):
        SCHEDULE.check("The schedule", stages)
        if isinstance(stages, Schedule):
            later_stages = stages._later if later_stages is None else later_stages
            last_stage = stages._last if last_stage is None else last_stage
        self._later, self._last = _overrides("later_stages", later_stages), _overrides("last_stage", last_stage)
        listed = [_stage(element, position) for position, element in enumerate(stages, start=1)]
        if not listed:
            raise InputError(
                "The schedule is empty: it must have at least one amount, such as [0] for in-domain data only."
            )
        if len(listed) > 1:
            listed[-1] = listed[-1].with_defaults(self._last)
        unset = replace(listed[0].optimizer, state=None)
        first = replace(listed[0], adapter=None, optimizer=unset)  # no stage before it has trained either
        self._stages = (first, *(stage.with_defaults(self._later) for stage in listed[1:]))
        for kind in (int, float):
            _check_falls([stage.amount for stage in self._stages if type(stage.amount) is kind])
            by_source = [stage.amount for stage in self._stages if isinstance(stage.amount, dict)]
            for name in dict.fromkeys(name for amounts in by_source for name in amounts):
                _check_falls([amounts[name] for amounts in by_source if type(amounts.get(name)) is kind], name)

    def __len__(self) -> int:
        return len(self._stages)

    def __getitem__(self, index: Any) -> Any:
        return self._stages[index]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages)

    def __eq__(self, other: object) -> bool:
        # as text: 1 is one example and 1.0 the whole pool, and the order of patterns decides which one matches
        return isinstance(other, Schedule) and str(self.to_list()) == str(other.to_list())

    def __hash__(self) -> int:
        return hash(str(self.to_list()))

    def __repr__(self) -> str:
        return f"Schedule({self.to_list()})"

    @property
    def later_stages(self) -> StageOverrides:
        """The overrides for every stage but the first."""
        return self._later

    @property
    def last_stage(self) -> StageOverrides:
        """The overrides for the last of several stages."""
        return self._last

    def with_stages(self, stages: Iterable[Amount | Stage | Mapping[str, Any]]) -> Schedule:
        """Other stages with the same ``later_stages`` and ``last_stage``."""
        return Schedule(stages, self._later, self._last)

    def amounts(self, pool_size: int, unit: str = "examples") -> list[int]:
        """The number of out-of-domain examples of each stage, for a pool of ``pool_size`` without named sources.

        Args:
            pool_size: The size of the pool.
            unit: What is counted, for messages: ``examples`` or ``tokens``.

        Raises:
            InputError: A stage needs more examples than the pool has, the amounts rise, or a stage names sources.
        """
        counts: list[int] = []
        for position, stage in enumerate(self._stages, start=1):
            if isinstance(stage.amount, dict):
                raise InputError(
                    f"Stage {position} of the schedule has amounts for {', '.join(stage.amount)}, but the pool has no "
                    "named sources: give it some, such as out_of_domain: {books: books.jsonl}, or write one amount."
                )
            counts.append(_count(stage.amount, pool_size, position, unit, "the pool"))
        _check_falls(counts)
        return counts

    def amounts_by_source(self, sizes: Mapping[str, int], unit: str = "examples") -> list[int | dict[str, int]]:
        """The amounts of each stage as numbers: one in all, or one for each source, where the stage names sources.

        Args:
            sizes: The size of each source, by name.
            unit: What is counted, for messages: ``examples`` or ``tokens``.

        Raises:
            InputError: A stage needs more examples than a source or the pool has, names a source that the pool does not
                have, or the amounts of a source or in all rise.
        """
        found: list[int | dict[str, int]] = []
        for position, stage in enumerate(self._stages, start=1):
            amount = stage.amount
            if not isinstance(amount, dict):
                found.append(_count(amount, sum(sizes.values()), position, unit, "the pool"))
                continue
            for name in amount:
                if name not in sizes:
                    hint = did_you_mean(name, sizes)
                    raise InputError(
                        f"Stage {position} of the schedule asks for examples of '{name}', but the pool's sources are "
                        f"{', '.join(sizes)}.{hint}"
                    )
            found.append(
                {name: _count(amount.get(name, 0), sizes[name], position, unit, f"'{name}'") for name in sizes}
            )
        for name in sizes:
            _check_falls([amount[name] for amount in found if isinstance(amount, dict)], name)
        _check_falls([sum(amount.values()) if isinstance(amount, dict) else amount for amount in found])
        return found

    def to_list(self) -> list[Any]:
        """The short form as plain data: a number for a stage without overrides, a mapping for one with."""
        return [
            {"amount": stage.amount, **stage.overrides()}
            if stage.overrides() or isinstance(stage.amount, dict)
            else stage.amount
            for stage in self
        ]


def remarks(
    schedule: Schedule, amounts: Sequence[int | Mapping[str, int]], sizes: Mapping[str, int], unit: str = "examples"
) -> list[str]:
    """Sentences on amounts that may not be meant as they are written.

    These are a single example at the start, where 1.0 would be the whole pool, fractions that round to 0, a pool that
    no stage uses, and an end that is not in-domain data alone.

    Args:
        schedule: The stages.
        amounts: Their amounts as numbers, in all or by source.
        sizes: The size of each source; of a pool without named sources under any one name.
        unit: What is counted: ``examples`` or ``tokens``.
    """
    found = []
    for position, (stage, amount) in enumerate(zip(schedule, amounts), start=1):
        if isinstance(stage.amount, dict):
            assert isinstance(amount, Mapping), "it has one for each source"
            for name, number in stage.amount.items():
                found.append(_doubt(position, number, amount[name], sizes[name], unit, name))
        else:
            assert isinstance(amount, int), "it has one in all"
            found.append(_doubt(position, stage.amount, amount, sum(sizes.values()), unit))
    totals = [sum(amount.values()) if isinstance(amount, Mapping) else amount for amount in amounts]
    pool, last = sum(sizes.values()), totals[-1]
    if pool and not any(totals):
        found.append(f"No stage uses the pool of {pool} out-of-domain {unit}: a schedule such as [1.0, 0.5, 0] would.")
    if last:
        counted = unit.removesuffix("s") if last == 1 else unit
        found.append(f"The schedule ends with {last} out-of-domain {counted}; the paper's ends with 0.")
    return list(filter(None, found))


def _doubt(position: int, number: Number, count: int, size: int, unit: str, source: str = "") -> str:
    """A sentence on an amount of a source, or of the whole pool; empty if there is nothing to say."""
    out_of_domain, of_source = ("", f" of '{source}'") if source else ("out-of-domain ", "")
    if isinstance(number, float) and number and not count:
        whose = "its" if source else "the pool's"
        return f"Stage {position} has no {out_of_domain}{unit}{of_source}: {number} of {whose} {size} rounds to 0."
    if isinstance(number, int) and position == number == 1 < size:
        one, everything = f"{out_of_domain}{unit.removesuffix('s')}{of_source}", source and f"'{source}'"
        return f"Stage 1 has 1 {one}; 1.0 would be all of {everything or 'the pool'}."
    return ""


def check_amount(amount: Any) -> Amount:
    """Return ``amount`` as an int (a number of examples) or as a float from 0 to 1 (a fraction of the pool).

    The amounts of a mapping by source are each returned like this.

    Raises:
        InputError: It is not a number, negative, not finite, or above 1 and not whole; or it is a mapping without
            entries.
    """
    if isinstance(amount, Mapping):
        if not amount:
            raise InputError("The schedule holds an amount without any source: it must name one, such as {books: 500}.")
        return {str(name): _check_number(number) for name, number in amount.items()}
    return _check_number(amount)


def _check_number(amount: Any) -> Number:
    if not is_number(amount):
        raise InputError(
            f"The schedule holds {amount!r}: an amount must be a number of examples or a fraction of the pool."
        )
    number: Number = int(amount) if isinstance(amount, numbers.Integral) else float(amount)
    if not math.isfinite(number) or number < 0:
        raise InputError(f"The schedule holds {number}: an amount must be finite and at least 0.")
    if isinstance(number, float) and number > 1:
        if not number.is_integer():
            raise InputError(f"The schedule holds {number}: an amount above 1 must be a whole number of examples.")
        return int(number)
    return number


def _advice(value: Any) -> str:
    """Say what to write instead of a single amount or of a list in quotation marks."""
    if is_number(value):
        return f"write [{value}]"
    return "write it without quotation marks" if isinstance(value, str) and value.strip().startswith("[") else ""


def _stage(element: Any, position: int) -> Stage:
    if isinstance(element, Stage):
        return element
    if isinstance(element, Mapping):
        if "amount" not in element:
            if element and all(is_number(value) for value in element.values()) and not {*element} & _OF_STAGES:
                return Stage(check_amount(element))
            raise InputError(f"Stage {position} of the schedule has no 'amount'.")
        return from_mapping(Stage, element, f"Stage {position} of the schedule")
    return Stage(check_amount(element))


def _overrides(name: str, given: StageOverrides | Mapping[str, Any] | None) -> StageOverrides:
    if given is None:
        return StageOverrides()
    if isinstance(given, Mapping):
        given = from_mapping(StageOverrides, given, name)
    if not isinstance(given, StageOverrides) or isinstance(given, Stage):
        raise InputError(f"{name} is {given!r}: it must be a mapping of settings, such as {{max_epochs: 8}}.")
    return given


def _count(amount: Number, size: int, position: int, unit: str, where: str) -> int:
    """The number of examples that an amount is, of a source or pool of this size."""
    count = round(amount * size) if isinstance(amount, float) else amount
    if count > size:
        raise InputError(
            f"Stage {position} of the schedule asks for {count} out-of-domain {unit}, but {where} holds {size}: ask "
            f"for at most {size}, or for a fraction of {where} such as 1.0."
        )
    return count


def _check_falls(amounts: Sequence[Number], source: str = "") -> None:
    for before, after in pairwise(amounts):
        if after > before:
            of_source = f" for '{source}'" if source else ""
            raise InputError(
                f"The schedule rises from {before} to {after}{of_source}: each stage's sample is part of the one "
                "before, so the amounts must not rise."
            )
