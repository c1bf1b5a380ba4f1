"""The numbers of the report: scores over seeds, differences from the baseline, training time and examples seen."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gradual.report.comparison import Comparison, Split, StageRecord, Strategy
from gradual.report.significance import Finished, same_test_data
from gradual.score_names import Mode, better, without_split


@dataclass(frozen=True)
class Score:
    """A score over several seeds.

    Attributes:
        by_seed: The score of each seed that has one.
    """

    by_seed: dict[int, float]

    @property
    def mean(self) -> float | None:
        """The mean; None without seeds."""
        return mean_of(self.by_seed.values()) if self.by_seed else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1); None for fewer than two seeds."""
        if len(self.by_seed) < 2:
            return None
        return statistics.stdev(self.by_seed.values()) if all(map(math.isfinite, self.by_seed.values())) else math.nan

    def of(self, seeds: Iterable[int]) -> Score:
        """The score over some of the seeds alone."""
        return Score({seed: self.by_seed[seed] for seed in seeds if seed in self.by_seed})

    def difference(self, other: Score) -> float | None:
        """The mean difference from ``other`` over the seeds that both have; None if there are none."""
        shared = self.by_seed.keys() & other.by_seed.keys()
        differences = [self.by_seed[seed] - other.by_seed[seed] for seed in sorted(shared)]
        return mean_of(differences) if differences else None


@dataclass(frozen=True)
class StrategyScores:
    """A row of the table.

    Attributes:
        strategy: The strategy.
        scores: Scores after the last stage, by split and metric, of the finished seeds.
        differences: Differences from the baseline, by split and metric; None for the baseline itself.
        steps: Optimizer steps of all its stages, averaged over the finished seeds; None where they are not known.
        seconds: Training time of all its stages, averaged over the finished seeds.
        examples_seen: Training examples in all epochs of all its stages, averaged over the finished seeds.
    """

    strategy: Strategy
    scores: dict[Split, dict[str, Score]]
    differences: dict[Split, dict[str, float | None]]
    steps: float | None
    seconds: float | None
    examples_seen: float | None


def mean_of(values: Collection[float]) -> float:
    """The mean, also of values that are not finite, of which ``statistics.fmean`` refuses some."""
    return statistics.fmean(values) if all(map(math.isfinite, values)) else sum(values) / len(values)


def stage_score(strategy: Strategy, stage: int, split: Split, metric: str) -> Score:
    """A score after one stage (counted from 0), over the seeds that have finished the stage."""
    scores = {seed: getattr(result, split) for seed, result in strategy.results(stage).items()}
    return Score({seed: found[metric] for seed, found in scores.items() if metric in found})


def final_score(strategy: Finished, split: Split, metric: str) -> Score:
    """A score of the result of the path, as a rule its last stage, over the finished seeds."""
    finals = {seed: record.result for seed in strategy.finished_seeds if (record := strategy.final(seed))}
    scores = {seed: getattr(result, split) for seed, result in finals.items()}
    return Score({seed: found[metric] for seed, found in scores.items() if metric in found})


def strategy_scores(comparison: Comparison) -> list[StrategyScores]:
    """The rows of the table, in the order of the strategies."""
    splits: dict[Split, list[str]] = {"val": comparison.val_metrics, "test": comparison.metrics}
    final: dict[str, dict[Split, dict[str, Score]]] = {
        strategy.name: {
            split: {metric: final_score(strategy, split, metric) for metric in metrics}
            for split, metrics in splits.items()
        }
        for strategy in comparison.strategies
    }
    rows = []
    for strategy in comparison.strategies:
        differences: dict[Split, dict[str, float | None]] = {
            split: dict.fromkeys(metrics) for split, metrics in splits.items()
        }
        if comparison.baseline not in (None, strategy.name):
            baseline = next(other for other in comparison.strategies if other.name == comparison.baseline)
            for split, metrics in splits.items():
                ours, theirs = final[strategy.name][split], final[baseline.name][split]
                if split == "val" or same_test_data(strategy, baseline):
                    differences[split] = {metric: ours[metric].difference(theirs[metric]) for metric in metrics}
        paths = [strategy.stages[seed] for seed in strategy.finished_seeds]
        seconds, seen = [sum(map(_seconds, path)) for path in paths], [sum(map(_seen, path)) for path in paths]
        rows.append(
            StrategyScores(
                strategy,
                final[strategy.name],
                differences,
                steps(strategy),
                statistics.fmean(seconds) if seconds else None,
                statistics.fmean(seen) if seen else None,
            )
        )
    return rows


def best(rows: list[StrategyScores], split: Split, metric: str, comparison: Comparison) -> float | None:
    """The best mean of a metric; None if no strategy has one, or nothing tells which values are better."""
    means = [row.scores[split][metric].mean for row in rows]
    finite = [mean for mean in means if mean is not None and math.isfinite(mean)]
    which = better_values(metric, comparison)
    return None if which is None else {"min": min, "max": max}[which](finite, default=None)


def better_values(metric: str, comparison: Comparison) -> Mode | None:
    """Whether lower or higher values of a metric are better: by the mode if it is the monitor, otherwise by its name.

    None where the name does not tell.
    """
    if without_split(comparison.monitor) == metric:
        return "min" if comparison.mode == "min" else "max"
    return better(metric)


def in_percent(comparison: Comparison) -> set[str]:
    """The metrics shown in percent and percentage points: those whose names and values say that they are fractions."""
    paths = [path for strategy in comparison.strategies for path in strategy.stages.values()]
    results = [stage.result for path in paths for stage in path]
    scores = [scores for result in results if result for scores in (result.val, result.test)]
    return {
        metric
        for metric in (*comparison.val_metrics, *comparison.metrics)
        if is_share(metric, [found[metric] for found in scores if metric in found])
    }


def is_share(metric: str, values: Iterable[float]) -> bool:
    """Whether a metric is named accuracy, F1, precision or recall, and all of its values are between 0 and 1."""
    named = not _words(metric).isdisjoint({"accuracy", "f1", "precision", "recall"}) and better(metric) != "min"
    return named and not any(value < 0 or value > 1 for value in values)


def _words(metric: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", metric.lower()))


def steps(strategy: Strategy) -> float | None:
    """The optimizer steps of all stages, as the mean over the finished seeds; None where they are not known."""
    paths = [[record.result for record in strategy.stages[seed]] for seed in strategy.finished_seeds]
    counts = [[result.steps if result else None for result in path] for path in paths]
    known = [sum(count or 0 for count in path) for path in counts if None not in path]
    return statistics.fmean(known) if known and len(known) == len(counts) else None


def _seconds(stage: StageRecord) -> float:
    return stage.result.seconds if stage.result else 0.0


def _seen(stage: StageRecord) -> int:
    result = stage.result
    if result is None:
        return 0
    if result.examples_seen is not None:
        return result.examples_seen
    return result.epochs * (result.in_domain + result.out_of_domain)
