"""A comparison as its run directory holds it: strategies, seeds and stages with their results, as far as they exist."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gradual.runs.result import StageResult

Split = Literal["val", "test"]
SPLITS: dict[Split, str] = {"val": "validation", "test": "test"}
"""The splits that scores are measured on, and their names for readers."""

Examples = dict[str, dict[str, tuple[float, float]]]
"""Test results by id and metric, as numerator and denominator; scores of several examples divide their sums.

Examples of one id, such as the sentences of a document, are one entry with their sums: what was sampled, and what is
resampled, is the document.
"""


@dataclass(frozen=True)
class StageRecord:
    """One stage of one seed, as far as it exists.

    Attributes:
        path: Its folder, relative to the run directory.
        started: Whether training has begun; the folder may be created earlier.
        collapsed: Whether it has collapsed in every attempt.
        settings: The settings it was started with; None if it never was.
        result: Its result; None until it is finished.
        history: Logged values, one entry per epoch, in order.
        examples: Test results by example; None if they were not saved.
        tested: Number of test results by example, of which several may have one id.
    """

    path: str
    started: bool
    collapsed: bool = False
    settings: dict[str, Any] | None = None
    result: StageResult | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    examples: Examples | None = None
    tested: int = 0

    @property
    def sources(self) -> dict[str, int]:
        """Out-of-domain examples of each named source; empty for a pool without names."""
        return (self.result.sources if self.result else None) or (self.settings or {}).get("sources") or {}

    @property
    def state(self) -> str:
        """``finished``, ``collapsed``, ``started`` or ``not started``."""
        unfinished = "collapsed" if self.collapsed else "started" if self.started else "not started"
        return "finished" if self.result else unfinished


@dataclass(frozen=True)
class Control:
    """What makes a strategy a control of another one: it takes as many steps with other amounts.

    Attributes:
        of: Name of the strategy that it copies.
        copies: For each of its stages, the stages (from 0) of that strategy whose steps it takes; empty for a stage
            that the two share.
        explanation: What it does differently, in a clause.
    """

    of: str
    copies: list[list[int]]
    explanation: str


@dataclass(frozen=True)
class Strategy:
    """One path of stages, trained once for each seed.

    Attributes:
        name: Its name in the comparison.
        amounts: Numbers of out-of-domain examples of its stages.
        overrides: The settings that each stage overrides, as plain data; the strategy's own are with the first stage.
        stages: Its stages by seed, in order; fewer than ``amounts`` if the comparison has not assigned folders yet.
        also: Other strategies with the same path, which have no row of their own.
        control: What makes it a control of another strategy; None if it is none.
        kept: What its result is: ``last``, ``best`` or ``average``.
        results_of_paths: The stage or average that is its result, by seed, as far as it exists; where it is left out,
            the last stage.
    """

    name: str
    amounts: list[int]
    overrides: list[dict[str, Any]]
    stages: dict[int, list[StageRecord]]
    also: list[str] = field(default_factory=list)
    control: Control | None = None
    kept: str = "last"
    results_of_paths: dict[int, StageRecord] = field(default_factory=dict)

    def final(self, seed: int) -> StageRecord | None:
        """The result of the path of a seed, as a rule its last stage; None until the path is finished."""
        return self.results_of_paths.get(seed, self.stages[seed][-1]) if self.is_finished(seed) else None

    def is_finished(self, seed: int) -> bool:
        """Whether all stages of a seed are finished, and the average of their weights if this is the result."""
        stages = self.stages.get(seed, [])
        if len(stages) != len(self.amounts) or not all(stage.result for stage in stages):
            return False
        return self.kept == "last" or (seed in self.results_of_paths and bool(self.results_of_paths[seed].result))

    @property
    def finished_seeds(self) -> list[int]:
        """The seeds whose stages are all finished."""
        return [seed for seed in self.stages if self.is_finished(seed)]

    @property
    def is_control(self) -> bool:
        """Whether it is a control of another strategy."""
        return self.control is not None

    def results(self, stage: int) -> dict[int, StageResult]:
        """The results of a stage (counted from 0) by seed, as far as they exist."""
        paths = {seed: path[stage] for seed, path in self.stages.items() if stage < len(path)}
        return {seed: record.result for seed, record in paths.items() if record.result}

    def cut_off(self, stage: int) -> dict[int, StageResult]:
        """The results of a stage that ended before it converged, by seed."""
        return {seed: result for seed, result in self.results(stage).items() if not result.converged}

    def collapsed(self, stage: int) -> dict[int, StageResult]:
        """The results of a stage of which earlier attempts collapsed, by seed; of a control, not of what it shares."""
        shared = self.control is not None and not self.control.copies[stage]
        return {} if shared else {seed: result for seed, result in self.results(stage).items() if result.collapses}

    @property
    def stages_cut_off(self) -> list[int]:
        """The stages (counted from 0) that ended before they converged for at least one seed."""
        return [stage for stage in range(len(self.amounts)) if self.cut_off(stage)]


@dataclass(frozen=True)
class Comparison:
    """Strategies, each trained with several seeds.

    Attributes:
        root: The run directory.
        strategies: The strategies in the order of the configuration.
        seeds: The seeds of the comparison, finished or not.
        metrics: Test scores to show: those of ``compare.json`` that the test logs; if there are none, all but the loss,
            or the loss if it is the only one. Where all but the loss are shown and none of them is known by example,
            as with the perplexity of language models, the loss is shown, too, if it is.
        val_metrics: Validation scores to show, chosen likewise.
        unknown: Scores of ``compare.json`` that no finished stage has.
        baseline: The strategy that differences are relative to; None for no differences.
        monitor: Validation metric that decided convergence and the best epoch.
        mode: ``min`` or ``max``: whether lower or higher values of the monitor are better.
        command: The command line of the comparison.
        versions: Versions of Python and packages.
        environment: The machine, as plain data.
        amount_in: What amounts count: ``examples`` or ``tokens``.
    """

    root: Path
    strategies: list[Strategy]
    seeds: list[int]
    metrics: list[str]
    val_metrics: list[str]
    unknown: list[str]
    baseline: str | None
    monitor: str
    mode: str
    command: str
    versions: dict[str, Any]
    environment: dict[str, Any]
    amount_in: str = "examples"

    @cached_property
    def has_test_scores(self) -> bool:
        """Whether any finished stage has test scores."""
        return any(result.test for result in results_of(self.strategies))

    @property
    def shown(self) -> dict[Split, list[str]]:
        """The metrics to show by split: those of validation always, those of the test if there was one."""
        return {"val": self.val_metrics, "test": self.metrics} if self.has_test_scores else {"val": self.val_metrics}

    @cached_property
    def missing(self) -> list[str]:
        """One sentence for each thing that the comparison lacks."""
        lines = [line for strategy in self.strategies for seed in self.seeds for line in self._missing(strategy, seed)]
        lines += [f"No stage has a score '{metric}'." for metric in self.unknown]
        if self.knows_no_examples:
            lines.append(
                "There are no test results by example, and therefore no significance: to provide them, return a list "
                'of {"id": ..., SCORE: [numerator, denominator]} from test_step.'
            )
        return lines

    @cached_property
    def knows_no_examples(self) -> bool:
        """Whether strategies were tested but none has test results by example: the module does not return them."""
        finals = [strategy.final(seed) for strategy in self.strategies for seed in self.seeds]
        kept = [final.examples is not None for final in finals if final is not None and self.has_test_scores]
        return bool(kept) and not any(kept)

    @cached_property
    def without_examples(self) -> list[str]:
        """The metrics that no test example has although there are results by example, such as a mean over labels."""
        named = known_by_example(self.strategies)
        return [metric for metric in self.metrics if named and metric not in named]

    def _missing(self, strategy: Strategy, seed: int) -> list[str]:
        who = f"{strategy.name}, seed {seed}"
        final = strategy.final(seed)
        if final is None:
            stages = strategy.stages.get(seed, [])
            done = sum(stage.result is not None for stage in stages)
            states = {"started": "has started", "not started": "has not started"}
            states["collapsed"] = "collapsed in every attempt"
            at = next((f"; {stage.path} {states[stage.state]}" for stage in stages if not stage.result), "")
            needs = self._collapsed_in_copied(strategy, seed)
            at = f"; it needs {needs}, which collapsed in every attempt" if needs else at
            return [f"{who}: {done} of {len(strategy.amounts)} stages finished{at}."]
        lines = [
            f"{who}: no validation score '{metric}' in {final.path}/result.json."
            for metric in self.val_metrics
            if final.result and metric not in final.result.val
        ]
        if not self.has_test_scores:
            return lines
        for metric in self.metrics:
            score = final.result.test.get(metric) if final.result else None
            if score is None:
                lines.append(f"{who}: no test score '{metric}' in {final.path}/result.json.")
                continue
            kept = pooled_score(final.examples, metric) if final.examples is not None else None
            if final.examples is not None and kept is None and metric not in self.without_examples:
                lines.append(f"{who}: no '{metric}' in {final.path}/test_examples.jsonl.")
            elif kept is not None and not math.isclose(kept, score, abs_tol=1e-4):
                lines.append(
                    f"{who}: '{metric}' is {kept:.4f} in {final.path}/test_examples.jsonl, but {score:.4f} in "
                    "result.json; significance is computed from the former."
                )
        if final.examples is None and not self.knows_no_examples:
            lines.append(f"{who}: no {final.path}/test_examples.jsonl, so significance is computed without it.")
        return lines

    def _collapsed_in_copied(self, strategy: Strategy, seed: int) -> str:
        """The stage of the copied strategy that keeps a control from being trained on; empty if there is none."""
        control, stages = strategy.control, strategy.stages.get(seed, [])
        at = next((k for k, stage in enumerate(stages) if not stage.result), None)
        if control is None or at is None or not control.copies[at]:
            return ""
        copied = next((one.stages.get(seed, []) for one in self.strategies if one.name == control.of), [])
        before = copied[: control.copies[at][-1] + 1]
        return next((stage.path for stage in before if stage.state == "collapsed"), "")


def pooled_score(examples: Examples, metric: str) -> float | None:
    """The score of all examples: the sum of numerators over the sum of denominators; None if no example has it."""
    pairs = [scores[metric] for scores in examples.values() if metric in scores]
    if not pairs:
        return None
    denominator = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / denominator if denominator else 0.0


def results_of(strategies: list[Strategy]) -> Iterator[StageResult]:
    """The results of the finished stages; a shared stage is repeated for each strategy that shares it."""
    stages = (stage for strategy in strategies for path in strategy.stages.values() for stage in path)
    return (stage.result for stage in stages if stage.result)


def known_by_example(strategies: list[Strategy]) -> set[str]:
    """The test scores that the results of paths have by example."""
    finals = [strategy.final(seed) for strategy in strategies for seed in strategy.finished_seeds]
    kept = [final.examples for final in finals if final is not None and final.examples is not None]
    return {name for examples in kept for scores in examples.values() for name in scores}
