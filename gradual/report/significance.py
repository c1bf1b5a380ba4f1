"""Compares one strategy with others: the difference in each score, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from gradual.report.comparison import Comparison, Examples, Split, StageRecord, Strategy
from gradual.report.uncertainty import Uncertainty, of_examples, of_scores


@dataclass(frozen=True, kw_only=True)
class Significance(Uncertainty):
    """The comparison of one strategy with another in one metric; the difference is the first minus the other.

    Attributes:
        strategy: The strategy of interest.
        other: The strategy it is compared with.
        metric: The score.
        examples: Number of test examples that both have; 0 where only the scores are known.
        seeds: Seeds that both have.
    """

    strategy: str
    other: str
    metric: str
    examples: int
    seeds: list[int]


class Finished(Protocol):
    """What has a result for each of its seeds: a strategy, or the best control, which may be another for each seed."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def finished_seeds(self) -> list[int]:
        """The seeds that it has a result for."""

    def final(self, seed: int) -> StageRecord | None:
        """Its result for a seed; None if it has none."""


def strategy_of_interest(comparison: Comparison) -> Strategy | None:
    """The strategy named ``gradual``, otherwise the last one that is no control."""
    strategies = [strategy for strategy in comparison.strategies if strategy.control is None]
    named = [strategy for strategy in strategies if strategy.name == "gradual"]
    candidates = named or strategies
    return candidates[-1] if candidates else None


def significances(comparison: Comparison) -> list[Significance]:
    """Compare the strategy of interest with each other strategy in each metric for which both have test results."""
    strategy = strategy_of_interest(comparison)
    found = []
    for other in comparison.strategies:
        for metric in comparison.metrics:
            if strategy is not None and other is not strategy:
                compared = compare(strategy, other, metric)
                found += [compared] if compared else []
    return found


def same_test_data(*compared: Finished) -> bool:
    """Whether all results were tested on the same data, as far as this is known."""
    finals = [one.final(seed) for one in compared for seed in one.finished_seeds]
    return len({final.result.test_data for final in finals if final and final.result} - {""}) < 2


def compare(strategy: Finished, other: Finished, metric: str) -> Significance | None:
    """Compare two strategies in a test score by example.

    Returns:
        The difference; None if they share fewer than two examples or no seed, or were tested on different data.
    """
    import numpy as np

    if not same_test_data(strategy, other):
        return None
    pairs = {}
    for seed in strategy.finished_seeds:
        ours, theirs = strategy.final(seed), other.final(seed)
        if ours and theirs and _has(ours.examples, metric) and _has(theirs.examples, metric):
            pairs[seed] = (ours.examples or {}, theirs.examples or {})
    both = [examples for pair in pairs.values() for examples in pair]
    ids = sorted(set.intersection(*({id_ for id_ in found if metric in found[id_]} for found in both)) if both else ())
    if len(ids) < 2:
        return None
    # (strategies, seeds, examples, 2): numerators and denominators
    counts = np.array(
        [[[pair[side][id_][metric] for id_ in ids] for pair in pairs.values()] for side in (0, 1)], dtype=float
    )
    found = of_examples(counts[0], counts[1])
    return _significance(found, strategy, other, metric, len(ids), list(pairs))


def compare_scores(strategy: Finished, other: Finished, split: Split, metric: str) -> Significance | None:
    """Compare two strategies in a score after the last stage, by seed alone.

    Returns:
        The difference; None if they share no seed that has the score, or were tested on different data.
    """
    import numpy as np

    if split == "test" and not same_test_data(strategy, other):
        return None
    differences = {}
    for seed in strategy.finished_seeds:
        finals = [strategy.final(seed), other.final(seed)]
        scores = [getattr(final.result, split).get(metric) for final in finals if final and final.result]
        if len(scores) == 2 and None not in scores:
            differences[seed] = scores[0] - scores[1]
    if not differences:
        return None
    found = of_scores(np.array(list(differences.values()), dtype=float))
    return _significance(found, strategy, other, metric, 0, list(differences))


def _significance(
    found: Uncertainty, strategy: Finished, other: Finished, metric: str, examples: int, seeds: list[int]
) -> Significance:
    return Significance(
        **asdict(found), strategy=strategy.name, other=other.name, metric=metric, examples=examples, seeds=seeds
    )


def _has(examples: Examples | None, metric: str) -> bool:
    return any(metric in scores for scores in (examples or {}).values())


def not_computed(comparison: Comparison, found: Sequence[Significance]) -> list[str]:
    """One sentence for each comparison without enough test results."""
    if comparison.knows_no_examples or not comparison.has_test_scores:  # reported elsewhere
        return []
    strategy = strategy_of_interest(comparison)
    there = {(significance.other, significance.metric) for significance in found}
    return [
        f"No significance of {strategy.name} against {other.name} in '{metric}': no seed has test results of at "
        "least two examples for both."
        for other in comparison.strategies
        for metric in comparison.metrics
        if strategy is not None and other is not strategy and (other.name, metric) not in there
        if same_test_data(strategy, other)  # a remark says so
        if metric not in comparison.without_examples
    ]
