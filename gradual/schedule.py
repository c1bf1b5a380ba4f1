"""What is trained, stage by stage: amounts of out-of-domain data and what each stage overrides.

Nothing here knows torch or files; numbers come in, checked numbers go out.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gradual.checks import Accepted, is_listed
from gradual.errors import InputError
from gradual.overrides import as_plain, from_mapping, merge
from gradual.settings import StageOverrides

Amount = int | float
"""Out-of-domain examples: a count (an int, or a whole float above 1) or a fraction of the pool (a float, 0 to 1)."""

SCHEDULE = Accepted(
    "a list of amounts, such as [4000, 2000, 500, 0]", lambda value: None if is_listed(value) else _of_schedule(value)
)
"""What a schedule is made of; its elements are checked by ``Schedule``."""


@dataclass(frozen=True)
class Stage(StageOverrides):
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

    def with_defaults(self, settings: StageOverrides) -> Stage:
        """This stage, with ``settings`` where it sets nothing itself."""
        return merge(Stage(self.amount, **vars(settings)), self)


class Schedule(Sequence[Stage]):
    """The stages in order, with non-increasing amounts (the paper's ``S``).

    ``Schedule([4000, 2000, 500, 0])`` is the short form; an element may also be a ``Stage`` or a mapping with a stage's
    fields, e.g. ``{"amount": 0, "optimizer": {"lr": 4e-5}}``.

    Args:
        stages: The stages; those of another schedule bring what it says of later ones and the last.
        later_stages: What all stages but the first do where they say nothing themselves, as ``StageOverrides`` or a
            mapping of its fields, e.g. ``{"optimizer": {"lr_scale": 0.4}}``.
        last_stage: What the last of several stages does where it says nothing itself, e.g. the paper's
            ``{"optimizer": {"lr": 4e-5}}`` (Appendix A.2); before what ``later_stages`` says.

    Raises:
        InputError: No stage, an element that is no amount or stage, a negative amount, or amounts that rise. Amounts
            of both kinds, counts and fractions, are compared as soon as the size of the pool is known (``amounts``).
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
        self._later, self._last = _settings("later_stages", later_stages), _settings("last_stage", last_stage)
        listed = [_stage(element, position) for position, element in enumerate(stages, start=1)]
        if not listed:
            raise InputError("The schedule is empty: give at least one amount, such as [0] for in-domain data only.")
        if len(listed) > 1:
            listed[-1] = listed[-1].with_defaults(self._last)
        self._stages = (listed[0], *(stage.with_defaults(self._later) for stage in listed[1:]))
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

    def with_stages(self, stages: Iterable[Amount | Stage | Mapping[str, Any]]) -> Schedule:
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


def _settings(name: str, given: StageOverrides | Mapping[str, Any] | None) -> StageOverrides:
    if given is None:
        return StageOverrides()
    if isinstance(given, Mapping):
        given = from_mapping(StageOverrides, given, name)
    if not isinstance(given, StageOverrides) or isinstance(given, Stage):
        raise InputError(f"{name} is {given!r}: accepted is a mapping of settings, such as {{max_epochs: 8}}.")
    return given


def _check_falls(amounts: Sequence[Amount]) -> None:
    for before, after in pairwise(amounts):
        if after > before:
            raise InputError(
                f"The schedule rises from {before} to {after}: each stage samples from the one before it, so the "
                "amounts may only fall or stay."
            )
