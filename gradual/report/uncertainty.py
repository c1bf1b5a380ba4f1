"""How far a difference of two strategies depends on the seeds and on the test examples that happened to be drawn.

Every seed trains both strategies and is tested on the same examples, so that seeds and examples are crossed. Examples
are resampled as a whole (bootstrap): an example is the unit that was sampled when the test set was made, a dialogue or
a document, whose turns or sentences depend on each other. Both strategies and all seeds use the same resamples. There
are few seeds, and resampling three of them would give intervals that are far too narrow, so each resample draws the
mean over seeds from its t distribution instead. Both together are a hierarchical bootstrap, whose intervals are right
for differences between all seeds and all examples, and not for those at hand alone.

Resamples are drawn in parts, so that the memory that they take does not grow with the number of examples. Of many
examples with few different results, such as right and wrong, it is drawn how often each result occurs in a resample
(from their multinomial distribution), which is the same and takes a fraction of the time.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
_RANDOM_SEED = 0
_BATCH = 1_000  # resamples in memory at once, at most
_DRAWN = 10**7  # examples drawn at once, at most
_MANY = 10_000  # examples; of more, it is looked whether few of them differ

_known: dict[tuple[int, tuple[int, ...], bytes], Uncertainty] = {}  # several tables of a report have the same pairs


@dataclass(frozen=True)
class Uncertainty:
    """A difference of two strategies and what it depends on. Intervals are of 95%.

    Attributes:
        difference: Mean over seeds of the difference in score.
        low: Lower end of the interval for other seeds and other examples; None with one seed, of which the spread is
            unknown, or without scores by example.
        high: Its upper end.
        p_value: Two-sided p-value for a difference of 0, for other seeds and other examples; None likewise.
        standard_error: Standard error of the difference, of seeds and examples together; None likewise.
        seeds_low: Lower end of the interval for other seeds, with these examples; None with one seed.
        seeds_high: Its upper end.
        examples_low: Lower end of the interval for other examples, with these seeds; None without scores by example.
        examples_high: Its upper end.
    """

    difference: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    standard_error: float | None = None
    seeds_low: float | None = None
    seeds_high: float | None = None
    examples_low: float | None = None
    examples_high: float | None = None


def of_scores(differences: np.ndarray) -> Uncertainty:
    """The uncertainty of a difference of which only the scores are known; nothing but itself if it is not finite.

    Args:
        differences: The difference for each seed, shape (seeds,).
    """
    mean = float(differences.mean())
    if len(differences) < 2 or not math.isfinite(mean):
        return Uncertainty(mean)
    half = _t(len(differences) - 1, 0.5 + CONFIDENCE / 2) * _standard_error(differences)
    return Uncertainty(mean, seeds_low=mean - half, seeds_high=mean + half)


def of_examples(ours: np.ndarray, theirs: np.ndarray) -> Uncertainty:
    """The uncertainty of a difference of which the scores of each example are known.

    A p-value is twice the smaller fraction of resamples on one side of 0 (those at 0 count for both sides), with one
    added to numerator and denominator so that it is never 0. It agrees with the interval. A difference that is not
    finite has neither.

    Args:
        ours: Numerators and denominators of one strategy, shape (seeds, examples, 2).
        theirs: Those of the other strategy, with the same shape and the same order of seeds and examples.
    """
    import numpy as np

    sides = [np.ascontiguousarray(side, dtype=float) for side in (ours, theirs)]
    key = (RESAMPLES, ours.shape, b"".join(hashlib.sha256(side.data).digest() for side in sides))
    if key not in _known:
        _known[key] = _of_examples(*sides)
    return _known[key]


def _of_examples(ours: np.ndarray, theirs: np.ndarray) -> Uncertainty:
    import numpy as np

    differences = _scores(np.ones((1, ours.shape[1])), ours)[0] - _scores(np.ones((1, ours.shape[1])), theirs)[0]
    seeds, mean = len(differences), float(differences.mean())
    if not math.isfinite(mean):
        return Uncertainty(mean)
    drawn = _resampled(ours, theirs)
    alone = of_scores(differences)
    examples_low, examples_high = _interval(drawn)
    if seeds < 2:
        return Uncertainty(mean, examples_low=examples_low, examples_high=examples_high)
    of_seeds, of_both, of_examples, share = _parts(differences, _influence(ours) - _influence(theirs))
    generator = np.random.default_rng([_RANDOM_SEED, 1])
    spread = of_seeds * ((seeds - 1) / generator.chisquare(seeds - 1, len(drawn))) ** 0.5
    deviations = np.maximum(spread, of_both) * generator.standard_normal(len(drawn))
    together = mean + share * (drawn - mean) + deviations
    low, high = _interval(together)
    return Uncertainty(
        mean,
        low,
        high,
        _p_value(together),
        float(np.hypot(max(of_seeds, of_both), of_examples)),
        alone.seeds_low,
        alone.seeds_high,
        examples_low,
        examples_high,
    )


def _resampled(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The mean differences of resamples of the examples, shape (resamples,)."""
    import numpy as np

    examples, generator = ours.shape[1], np.random.default_rng(_RANDOM_SEED)
    ours, theirs, share = _different(ours, theirs)
    found, at_once = [], max(1, min(_BATCH, _DRAWN // ours.shape[1]))
    for start in range(0, RESAMPLES, at_once):
        number = min(at_once, RESAMPLES - start)
        if share is None:
            drawn = generator.integers(0, examples, (number, examples))
            drawn += examples * np.arange(number)[:, None]
            times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        else:
            times = generator.multinomial(examples, share, number).astype(float)
        means = [_scores(times, counts).mean(axis=-1) for counts in (ours, theirs)]
        found.append(means[0] - means[1])
    return np.concatenate(found)


def _different(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The different results of many examples if they are few, and the share of the examples that has each of them.

    Otherwise the results of all examples, and None.
    """
    import numpy as np

    seeds, examples = ours.shape[:2]
    if examples <= _MANY:
        return ours, theirs, None
    rows = np.concatenate([ours, theirs], axis=2).transpose(1, 0, 2).reshape(examples, -1)
    different, repeats = np.unique(rows, axis=0, return_counts=True)
    if len(different) > examples // 10:
        return ours, theirs, None
    both = different.reshape(-1, seeds, 4).transpose(1, 0, 2)
    return both[..., :2], both[..., 2:], repeats / examples


def _scores(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The scores (resamples, seeds) of resamples in which example ``j`` was drawn ``times[i, j]`` times."""
    import numpy as np

    numerators, denominators = times @ counts[..., 0].T, times @ counts[..., 1].T
    return np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators != 0)


def _influence(counts: np.ndarray) -> np.ndarray:
    """How far each example moves the score of each seed, shape (seeds, examples); the mean over examples is 0."""
    import numpy as np

    numerators, denominators = counts[..., 0], counts[..., 1]
    totals = denominators.sum(axis=1, keepdims=True)
    safe = np.where(totals == 0, 1.0, totals)
    moved: np.ndarray = counts.shape[1] * (numerators - numerators.sum(axis=1, keepdims=True) / safe * denominators)
    return moved / safe


def _parts(differences: np.ndarray, influence: np.ndarray) -> tuple[float, float, float, float]:
    """The standard errors of the mean difference that seeds and examples cause, by a two-way analysis of variance.

    What seeds and examples cause only together (this seed errs on this example) is in the spread of seeds already, so
    that it must not count again with the examples, whose resamples have it, too. Unlike the spread of few seeds, it is
    known well, from many examples: it is the least that the seeds can cause.

    Returns:
        The part of the seeds, what is in it of seeds and examples together, the part of the examples, and by what to
        multiply the spread of resamples for the latter.
    """
    seeds, examples = influence.shape
    by_example = influence.mean(axis=0)
    total = float(by_example.var(ddof=1)) / examples
    rest = float(((influence - by_example) ** 2).sum()) / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    share = max(0.0, 1 - rest / total) ** 0.5 if total > 0 else 0.0
    return _standard_error(differences), rest**0.5, share * total**0.5, share


def _standard_error(differences: np.ndarray) -> float:
    return float(differences.std(ddof=1)) / len(differences) ** 0.5


def _t(degrees: int, level: float) -> float:
    """A quantile of the t distribution."""
    from scipy import stats  # type: ignore[import-untyped]

    return float(stats.t.ppf(level, degrees))


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(drawn, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)


def _p_value(drawn: np.ndarray) -> float:
    drawn = drawn.round(12)  # differences that are 0 up to rounding count as 0
    one_side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (one_side + 1) / (len(drawn) + 1))
