"""Reads a search from its run directory: the paths that it tried, their stages, and the confirmation of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradual.report.checked import list_in, mapping_in, read_mapping
from gradual.report.collect import read_comparison
from gradual.report.comparison import Comparison, Strategy
from gradual.report.scores import is_share
from gradual.score_names import without_split

DEFAULT, FOUND = "default schedule", "searched schedule"  # strategies of the confirmation


@dataclass(frozen=True)
class TriedStage:
    """A stage of a path.

    Attributes:
        path: Its folder, relative to the run directory.
        amount: Its out-of-domain examples.
        lr_scale: The factor of its learning rates that the search chose.
        score: Its monitored validation score; None where it has none.
        cost: What its training took, in the unit of the budget.
        new: Whether it was trained for this path; else an earlier one, or an earlier command, had trained it.
    """

    path: str
    amount: int
    lr_scale: float
    score: float | None
    cost: int
    new: bool


@dataclass(frozen=True)
class TriedPath:
    """A path of the search.

    Attributes:
        schedule: What was chosen of it, as in a configuration.
        state: ``finished``, ``pruned``, ``failed`` or ``unfinished``.
        score: The validation score of its result; None unless it is finished.
        stages: Its stages that are trained.
    """

    schedule: list[Any]
    state: str
    score: float | None
    stages: list[TriedStage]

    @property
    def name(self) -> str:
        """Its amounts with arrows between them, and the factors of learning rates that differ from 1."""
        amounts = [one["amount"] if isinstance(one, dict) else one for one in self.schedule]
        factors = [stage.lr_scale for stage in self.stages] + [1.0] * len(amounts)
        return " → ".join(
            f"{amount}{'' if factor == 1 else f' (lr x {factor:g})'}" for amount, factor in zip(amounts, factors)
        )


@dataclass(frozen=True)
class Search:
    """A search, as far as it is.

    Attributes:
        root: The run directory.
        unit: ``examples`` or ``steps``.
        limit: The budget.
        spent: What was trained for the search.
        monitor: The validation score that paths are chosen by.
        mode: ``min`` or ``max``.
        seed: The seed of its stages.
        paths: The paths in the order of the search.
        best: The number of the best path; None while none is finished.
        default: The number of the configuration's schedule; None where the search could not choose it.
        confirmation: The comparison of the best path under fresh seeds; None where there is none.
        confirmed_before: Amounts of the path that was the best one when the comparison under fresh seeds was made, if
            that is another one now.
        command: The command line of the search.
        versions: Versions of Python and packages.
    """

    root: Path
    unit: str
    limit: float
    spent: int
    monitor: str
    mode: str
    seed: int
    paths: list[TriedPath]
    best: int | None
    default: int | None
    confirmation: Comparison | None
    confirmed_before: list[int] | None
    command: str
    versions: dict[str, Any]

    @property
    def percent(self) -> bool:
        """Whether the monitored score is shown in percent."""
        scores = [stage.score for path in self.paths for stage in path.stages if stage.score is not None]
        return is_share(without_split(self.monitor), scores)

    def gain(self, before: float | None, after: float | None) -> float | None:
        """By how much ``after`` is better than ``before``: positive if it is better."""
        if before is None or after is None:
            return None
        return after - before if self.mode == "max" else before - after


def read_search(run_dir: Path) -> Search:
    """Read a search from its run directory, as far as it exists.

    Raises:
        InputError: A file is damaged; the message names it.
    """
    file = run_dir / "search.json"
    content = read_mapping(file)
    budget = mapping_in(content, "budget", file)
    confirm = content.get("confirm") or {}
    there = bool(confirm) and (run_dir / confirm["run_dir"] / "compare.json").is_file()
    compared = read_comparison(run_dir / confirm["run_dir"]) if there else None
    paths = [
        TriedPath(
            list(one.get("schedule", ())),
            str(one.get("state")),
            one.get("score"),
            [TriedStage(**stage) for stage in one.get("stages", ())],
        )
        for one in list_in(content, "paths", dict, file)
    ]
    best = content.get("best")
    found = next((one for one in compared.strategies if one.name == FOUND), None) if compared else None
    is_of_best = found is not None and best is not None and _is_path_of(found, paths[best])
    return Search(
        root=run_dir,
        unit=str(budget.get("in")),
        limit=float(budget.get("limit") or 0),
        spent=int(budget.get("spent") or 0),
        monitor=str(content.get("monitor", "")),
        mode=str(content.get("mode", "min")),
        seed=int(content.get("seed") or 0),
        paths=paths,
        best=best,
        default=content.get("default"),
        confirmation=compared if is_of_best else None,
        confirmed_before=found.amounts if found is not None and not is_of_best else None,
        command=str(content.get("command", "")),
        versions=mapping_in({"versions": {}, **content}, "versions", file),
    )


def _is_path_of(strategy: Strategy, path: TriedPath) -> bool:
    """Whether a strategy of the confirmation has the stages of a path."""
    stages = [dict(stage) if isinstance(stage, dict) else {"amount": stage} for stage in path.schedule]
    own = [{"amount": amount, **more} for amount, more in zip(strategy.amounts, strategy.overrides)]
    return own == stages
