"""The settings of a search: what it chooses from, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gradual.checks import Accepted, check_fields, integer, is_listed, number
from gradual.errors import InputError

BudgetUnit = Literal["examples", "steps"]
BUDGET_UNITS = ("examples", "steps")

BUDGET = number(above=0)


def _wrong_numbers(value: Any) -> str | None:
    least = number(above=0)
    listed = is_listed(value) and len(list(value)) and all(least.wrong(one) is None for one in value)
    return None if listed else ""


_NUMBERS = Accepted("a list of numbers above 0", _wrong_numbers, lambda value: [float(one) for one in value])


@dataclass(frozen=True)
class SearchConfig:
    """What a search for a schedule chooses from, and how.

    Attributes:
        multiples: The amounts to choose from, as multiples of the schedule's first amount; those of the schedule are
            added, and those beyond the pool left out.
        lr_scales: Factors to choose from for the learning rates of each stage but the first, besides the rates that
            the configuration gives such a stage.
        max_stages: Maximum number of stages of a path, including the last one, which is always without out-of-domain
            data. A schedule with more stages raises it.
        sampler: The class of ``optuna.samplers`` that suggests the next choice of a path.
        sampler_args: Arguments of that class; it gets its seed from the experiment's.
        pruner: The class of ``optuna.pruners`` that ends paths which validation shows to be worse; None to train every
            path to its end.
        pruner_args: Arguments of that class.
    """

    multiples: list[float] = field(default_factory=lambda: [2.0, 1.0, 0.5, 0.25, 0.125, 0.0625])
    lr_scales: list[float] = field(default_factory=lambda: [1.0, 0.5])
    max_stages: int = 4
    sampler: str = "TPESampler"
    sampler_args: dict[str, Any] = field(default_factory=dict)
    pruner: str | None = "MedianPruner"
    pruner_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "search.{}", multiples=_NUMBERS, lr_scales=_NUMBERS, max_stages=integer(2))
        if 1.0 not in self.lr_scales:
            raise InputError(
                f"search.lr_scales is {self.lr_scales}: it must have 1, for the rates of the configuration."
            )
