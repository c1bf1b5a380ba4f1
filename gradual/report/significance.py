"""Tests whether one strategy is better than another with a paired bootstrap over test examples.

An example is the unit that was sampled when the test set was made: a dialogue or a document. Its turns or sentences
depend on each other, so they are never resampled individually. Both strategies and all seeds use the same resamples, so
the result measures how much the difference depends on the choice of test examples. How much it depends on the seed is
the standard deviation in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradual.report.collect import Comparison, Examples, Strategy

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
_RANDOM_SEED = 0
_BATCH = 1_000  # resamples in memory at once


@dataclass(frozen=True)
class Significance:
    """The comparison of one strategy with another in one metric.

    Attributes:
        strategy: The strategy of interest.
        other: The strategy it is compared with.
        metric: The test score.
        difference: Mean over seeds of the score of ``strategy`` minus that of ``other``.
        low: Lower end of the 95% percentile interval of the difference.
        high: Upper end.
        p_value: Two-sided p-value for a difference of 0.
        examples: Number of test examples that both have.
        seeds: Seeds that both have.
    """

    strategy: str
    other: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    examples: int
    seeds: list[int]


def strategy_of_interest(comparison: Comparison) -> Strategy | None:
    """The strategy named ``gradual``, otherwise the last one."""
    named = [strategy for strategy in comparison.strategies if strategy.name == "gradual"]
    strategies = named or comparison.strategies
    return strategies[-1] if strategies else None


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


def compare(strategy: Strategy, other: Strategy, metric: str) -> Significance | None:
    """Compare two strategies in one metric; None if they share fewer than two examples or no seed."""
    import numpy as np

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
    difference, low, high, p_value = paired_bootstrap(counts[0], counts[1])
    return Significance(strategy.name, other.name, metric, difference, low, high, p_value, len(ids), list(pairs))


def paired_bootstrap(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float, float]:
    """The difference of two scores with its percentile interval and p-value.

    The p-value is twice the smaller fraction of resamples on one side of 0 (those at 0 count for both sides), with one
    added to numerator and denominator so that it is never 0. It agrees with the interval.

    Args:
        ours: Numerators and denominators of one strategy, shape (seeds, examples, 2).
        theirs: Those of the other strategy, with the same shape and the same order of seeds and examples.

    Returns:
        The difference, the ends of its interval, and the two-sided p-value.
    """
    import numpy as np
    from scipy import stats  # type: ignore[import-untyped]

    examples = ours.shape[1]

    def difference(indices: Any, axis: int = -1) -> Any:
        """The mean difference (...) of drawn examples (..., examples)."""
        drawn = np.moveaxis(indices, axis, -1).reshape(-1, examples)
        offsets = examples * np.arange(len(drawn))[:, None]
        times = np.bincount((drawn + offsets).ravel(), minlength=drawn.size).reshape(drawn.shape)
        means = [_scores(times, counts).mean(axis=-1) for counts in (ours, theirs)]
        return (means[0] - means[1]).reshape(np.moveaxis(indices, axis, -1).shape[:-1])

    everything = np.arange(examples)
    resampled = stats.bootstrap(
        (everything,),
        difference,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_RANDOM_SEED),
    )
    drawn = resampled.bootstrap_distribution.round(12)  # differences that are 0 up to rounding count as 0
    one_side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    interval = resampled.confidence_interval
    p_value = min(1.0, 2 * (one_side + 1) / (RESAMPLES + 1))
    return float(difference(everything)), float(interval.low), float(interval.high), p_value


def _scores(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The scores (resamples, seeds) of resamples in which example ``j`` was drawn ``times[i, j]`` times."""
    import numpy as np

    numerators, denominators = times @ counts[..., 0].T, times @ counts[..., 1].T
    return np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators != 0)


def _has(examples: Examples | None, metric: str) -> bool:
    return any(metric in scores for scores in (examples or {}).values())


def not_computed(comparison: Comparison, found: Sequence[Significance]) -> list[str]:
    """One sentence for each comparison without enough test results."""
    if comparison.knows_no_examples or not comparison.has_test_scores:  # reported elsewhere
        return []
    strategy = strategy_of_interest(comparison)
    there = {(significance.other, significance.metric) for significance in found}
    return [
        f"No significance of {strategy.name} against {other.name} in '{metric}': no seed has test results by example "
        "for both."
        for other in comparison.strategies
        for metric in comparison.metrics
        if strategy is not None and other is not strategy and (other.name, metric) not in there
    ]
