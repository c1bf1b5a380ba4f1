"""What came out of one stage."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gradual.score_names import without_split

CUT_OFF = "\N{DAGGER}"
"""Marks a stage that ended before it converged, and a strategy with such a stage."""


STEPS_OF_STRATEGY = "steps of its strategy"
"""What ends a stage of a control, which takes exactly the steps of the stages that it copies."""


@dataclass
class StageResult:
    """What came out of one stage.

    Attributes:
        index: The stage's place in its schedule, counted from 0.
        amount: Out-of-domain examples, as a count.
        in_domain: In-domain training examples.
        out_of_domain: Out-of-domain training examples.
        epochs: Epochs trained.
        best_epoch: The epoch whose weights were kept, counted from 1.
        seconds: Training time, validation included; test and attempts that collapsed not.
        val: Validation scores of the kept weights.
        test: Test scores of the kept weights; empty where there is no test data.
        path: The stage's folder, relative to the run directory.
        collapses: The attempts before this result that collapsed: ``step`` (training batches), ``reason``, and
            ``lr_scale``, what its learning rates were multiplied with.
        converged: False where a limit ended the stage before its patience ran out.
        ended_by: What ended it: ``patience``, ``max_epochs``, ``max_steps`` or ``max_time``; for a stage of a control,
            ``STEPS_OF_STRATEGY``; empty where it is unknown, such as a callback of the user's.
        test_data: A digest of the test data that ``test`` was measured on; empty where nothing was measured.
        steps: Optimizer steps taken; None if an earlier version trained the stage.
        planned_steps: Optimizer steps that its limits allowed, which learning-rate schedules are planned for; None for
            no limit.
        validations: Number of validations.
        examples_seen: Training examples in all batches; None if an earlier version trained the stage.
        sources: Out-of-domain training examples of each named source; empty for a pool without names.
        tokens: Tokens of the out-of-domain training examples; None where amounts count examples.
        averaged: For the average of the weights of several stages, how many; 0 for a stage that was trained.
    """

    index: int
    amount: int
    in_domain: int
    out_of_domain: int
    epochs: int
    best_epoch: int
    seconds: float
    val: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    path: str = ""
    collapses: list[dict[str, Any]] = field(default_factory=list)
    converged: bool = True
    ended_by: str = ""
    test_data: str = ""
    steps: int | None = None
    planned_steps: int | None = None
    validations: int = 0
    examples_seen: int | None = None
    sources: dict[str, int] = field(default_factory=dict)
    tokens: int | None = None
    averaged: int = 0


def best_stage(results: Iterable[StageResult], monitor: str, mode: str) -> int | None:
    """The index of the result with the best monitored validation score, the last of equals; None where none has one."""
    name, sign = without_split(monitor), 1 if mode == "max" else -1
    scores = [(sign * result.val.get(name, math.nan), index) for index, result in enumerate(results)]
    return max((pair for pair in scores if math.isfinite(pair[0])), default=(0.0, None))[1]


def reported_scores(results: Iterable[StageResult], split: str, asked: Iterable[str] = ()) -> list[str]:
    """The scores of a split (``val`` or ``test``) that a report shows.

    Those of ``asked`` that the split has; without any, all but the loss, or the loss alone.
    """
    names = dict.fromkeys(name for result in results for name in getattr(result, split))
    return [name for name in asked if name in names] or [name for name in names if name != "loss"] or list(names)
