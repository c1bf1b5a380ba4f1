"""Intervals of differences: for other examples, for other seeds, and for both, against loops and simulations."""

import statistics
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from slow_cases import fast_one_in

from gradual.report.uncertainty import RESAMPLES, _resampled, of_examples, of_scores


def naive_bootstrap(ours, theirs, resamples):
    """The same differences, one example at a time."""
    differences = []
    for resample in resamples:
        means = []
        for strategy in (ours, theirs):
            scores = []
            for seed in strategy:
                numerator = sum(seed[example][0] for example in resample)
                denominator = sum(seed[example][1] for example in resample)
                scores.append(numerator / denominator)
            means.append(statistics.fmean(scores))
        differences.append(means[0] - means[1])
    return differences


def test_the_bootstrap_is_that_of_a_naive_loop(monkeypatch):
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 300)
    monkeypatch.setattr("gradual.report.uncertainty._BATCH", 300)
    chance = np.random.default_rng(5)
    totals = chance.integers(3, 9, size=(2, 12))
    ours, theirs = (np.stack([chance.binomial(totals, rate), totals], axis=-1) for rate in (0.6, 0.5))
    resamples = np.random.default_rng(0).integers(0, 12, (300, 12))

    expected = naive_bootstrap(ours.tolist(), theirs.tolist(), resamples.tolist())
    found = of_examples(ours.astype(float), theirs.astype(float))

    assert found.difference == pytest.approx(naive_bootstrap(ours.tolist(), theirs.tolist(), [list(range(12))])[0])
    assert (found.examples_low, found.examples_high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))


def counted(seed, seeds, examples, turns=9):
    """Pairs of two strategies: of some turns, how many are right."""
    chance = np.random.default_rng(seed)
    totals = np.full((seeds, examples), turns)
    return [np.stack([chance.binomial(totals, rate), totals], axis=-1).astype(float) for rate in (0.6, 0.5)]


def test_the_parts_in_which_resamples_are_drawn_do_not_change_them(monkeypatch):
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 300)
    ours, theirs = counted(1, 3, 50)
    whole = _resampled(ours, theirs)
    monkeypatch.setattr("gradual.report.uncertainty._DRAWN", 50 * 7)
    assert _resampled(ours, theirs) == pytest.approx(whole, abs=1e-14)
    monkeypatch.setattr("gradual.report.uncertainty._DRAWN", 1)
    assert _resampled(ours, theirs) == pytest.approx(whole, abs=1e-14)


@pytest.mark.parametrize("kind", ["all differ", "few differ"])
def test_resamples_of_many_examples_take_a_bounded_memory(kind, monkeypatch):
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 1_000)
    monkeypatch.setattr("gradual.report.uncertainty._DRAWN", 10**5)
    monkeypatch.setattr("gradual.report.uncertainty._MANY", 1_000)
    sides = counted(2, 2, 4_000, turns=1)
    if kind == "all differ":
        sides[0][..., 0] += np.random.default_rng(0).random((2, 4_000))
    tracemalloc.start()
    try:
        _resampled(*sides)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * 10**5, "all at once would be twenty times as much"


def test_few_different_results_of_many_examples_are_drawn_as_often_as_the_examples_would_be(monkeypatch):
    """The intervals are those of all examples, up to the chance of 10,000 resamples, and those of theory."""
    ours, theirs = counted(3, 2, 2_000, turns=1)
    slow = _resampled(ours, theirs)
    monkeypatch.setattr("gradual.report.uncertainty._MANY", 1_000)
    fast = _resampled(ours, theirs)
    assert not np.array_equal(slow, fast)
    assert stats.ks_2samp(slow, fast).pvalue > 0.001
    error = ((ours - theirs)[..., 0].mean(axis=0)).std() / 2_000**0.5
    for drawn in (slow, fast):
        assert drawn.std() == pytest.approx(error, rel=0.03)


def test_few_different_results_are_weighed_as_a_naive_loop_does(monkeypatch):
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 20)
    monkeypatch.setattr("gradual.report.uncertainty._MANY", 40)
    rows = np.array([[[7, 9], [2, 9]], [[4, 5], [4, 5]], [[0, 0], [1, 2]]], dtype=float)  # (results, seeds, 2)
    others = np.array([[[1, 9], [6, 9]], [[5, 5], [3, 5]], [[1, 3], [0, 1]]], dtype=float)
    which = np.repeat([0, 1, 2], [10, 20, 20])
    found = _resampled(rows[which].transpose(1, 0, 2), others[which].transpose(1, 0, 2))

    both = np.concatenate([rows, others], axis=2).reshape(3, -1)
    order = sorted(range(3), key=lambda row: both[row].tolist())
    share = np.array([10, 20, 20])[order] / 50
    draws = np.random.default_rng(0).multinomial(50, share, 20)
    resamples = [np.repeat(order, times).tolist() for times in draws]
    sides = [side.transpose(1, 0, 2).tolist() for side in (rows, others)]
    assert found == pytest.approx(naive_bootstrap(*sides, resamples))


def test_a_pair_that_several_tables_have_is_resampled_once(monkeypatch):
    calls = []
    monkeypatch.setattr("gradual.report.uncertainty._resampled", lambda *sides: calls.append(1) or _resampled(*sides))
    ours, theirs = counted(4, 3, 30)
    first = of_examples(ours, theirs)
    assert of_examples(ours.copy(), theirs.copy()) == first
    assert len(calls) == 1
    assert of_examples(theirs, ours) != first
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 100)
    assert of_examples(ours, theirs) != first
    assert len(calls) == 3


def test_the_interval_of_seeds_is_that_of_their_t_distribution():
    differences = np.array([0.02, -0.01, 0.05, 0.03])
    found = of_scores(differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.seeds_low, found.seeds_high) == pytest.approx((expected.low, expected.high))
    assert found.difference == pytest.approx(differences.mean())
    assert (found.low, found.examples_low, found.p_value) == (None, None, None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_difference_that_is_not_finite_has_no_interval_and_no_p(value):
    ours = np.ones((3, 50, 2))
    theirs = ours * [0.5, 1.0]
    ours[0, 7, 0] = value
    for found in (of_examples(ours, theirs), of_scores(np.array([0.1, value, 0.2]))):
        assert not np.isfinite(found.difference)
        assert {name: value for name, value in vars(found).items() if value is not None}.keys() == {"difference"}


def test_one_seed_says_nothing_of_other_seeds():
    assert of_scores(np.array([0.02])).seeds_low is None
    counts = np.stack([np.arange(20.0) % 3, np.full(20, 3.0)], axis=-1)[None]
    found = of_examples(counts, counts - [0.5, 0.0])
    assert (found.low, found.high, found.p_value, found.standard_error, found.seeds_low) == (None,) * 5
    assert found.examples_low is not None


def test_a_strategy_is_not_better_than_itself():
    chance = np.random.default_rng(0)
    counts = np.stack([chance.integers(0, 5, (3, 20)), np.full((3, 20), 5)], axis=-1).astype(float)

    found = of_examples(counts, counts.copy())
    assert (found.difference, found.low, found.high, found.p_value, found.standard_error) == (0, 0, 0, 1, 0)
    found = of_examples(counts, counts[[2, 0, 1]])  # other seeds, the same mean
    assert found.difference == pytest.approx(0)
    assert (found.examples_low, found.examples_high) == pytest.approx((0, 0))
    assert found.low < 0 < found.high
    assert found.p_value > 0.5


def test_a_clear_difference_has_the_smallest_p_value():
    counts = np.array([[[7.0, 10.0], [8.0, 10.0], [9.0, 10.0]] * 10] * 2)
    found = of_examples(counts, counts - [5.0, 0.0])

    assert (found.difference, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.p_value == pytest.approx(2 / (RESAMPLES + 1))


def test_examples_without_a_denominator_count_for_nothing():
    counts = np.array([[[0.0, 0.0], [0.0, 0.0], [2.0, 4.0]]])  # documents without a trigger, F1
    found = of_examples(counts, np.zeros((1, 3, 2)))

    assert (found.difference, found.examples_low, found.examples_high) == (0.5, 0, 0.5)


def simulated(generator, seeds, examples, of_seeds, of_examples_, of_both):
    """Counts of two strategies whose true difference is 0; the spread of each cause is as given."""
    effects = (
        of_seeds * generator.standard_normal((seeds, 1))
        + of_examples_ * generator.standard_normal(examples)
        + of_both * generator.standard_normal((seeds, examples))
    )
    ones = np.ones((seeds, examples))
    return np.stack([0.5 + effects, ones], axis=-1), np.stack([0.5 * ones, ones], axis=-1)


SPREADS = {  # seeds, examples, spread by seed, by example and by both
    "seeds and examples alike": (5, 100, 0.1, 1.0, 0.5),
    "seeds above all": (5, 60, 0.2, 0.2, 0.2),
    "examples above all": (5, 100, 0.01, 1.0, 0.3),
    "three seeds that differ much": (3, 60, 0.3, 0.5, 0.5),
    "many seeds": (10, 100, 0.1, 1.0, 1.0),
}


@pytest.mark.parametrize("case", fast_one_in(3, SPREADS))
def test_the_interval_of_both_holds_the_truth_in_95_of_100_comparisons(case, monkeypatch):
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 500)
    generator = np.random.default_rng(7)
    found = [of_examples(*simulated(generator, *SPREADS[case])) for _ in range(1000)]
    assert 930 <= sum(one.low <= 0 <= one.high for one in found) <= 970
    narrow = sum(one.examples_low <= 0 <= one.examples_high for one in found)
    assert narrow <= 970
    if case != "examples above all":
        assert narrow < 930, "which is why examples alone are not enough"


@pytest.mark.slow
def test_where_seeds_differ_by_their_errors_on_examples_alone_the_interval_is_on_the_safe_side(monkeypatch):
    """With the spread of seeds itself near 0, which cannot be known from four of them."""
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 500)
    generator = np.random.default_rng(7)
    found = [of_examples(*simulated(generator, 4, 80, 0.05, 0.3, 1.0)) for _ in range(1000)]
    assert 950 <= sum(one.low <= 0 <= one.high for one in found) <= 990


def test_seeds_that_agree_by_chance_do_not_make_the_interval_narrower_than_that_of_examples():
    generator = np.random.default_rng(2)
    ours, theirs = simulated(generator, 2, 60, 0.0, 0.5, 1.0)
    ours[..., 0] -= ours[..., 0].mean(axis=1, keepdims=True) - 0.6
    found = of_examples(ours, theirs)
    assert found.seeds_high - found.seeds_low == pytest.approx(0, abs=1e-9)
    assert found.high - found.low >= 0.95 * (found.examples_high - found.examples_low)


def test_the_standard_error_is_that_of_the_simulation(monkeypatch):
    monkeypatch.setattr("gradual.report.uncertainty.RESAMPLES", 2)
    generator = np.random.default_rng(3)
    found = [of_examples(*simulated(generator, 6, 50, 0.1, 0.7, 1.0)) for _ in range(2000)]
    true = (0.1**2 / 6 + 0.7**2 / 50 + 1.0 / 300) ** 0.5
    assert statistics.stdev(one.difference for one in found) == pytest.approx(true, rel=0.05)
    assert statistics.fmean(one.standard_error**2 for one in found) == pytest.approx(true**2, rel=0.05)


def test_the_linear_part_of_a_ratio_is_what_one_more_example_changes():
    """F1 of documents: numerators and denominators vary; the standard error is that of resampling."""
    generator = np.random.default_rng(1)
    denominators = generator.integers(0, 12, (4, 300)).astype(float)
    sides = [
        np.stack([generator.binomial(denominators.astype(int), rate), denominators], axis=-1) for rate in (0.7, 0.5)
    ]
    found = of_examples(*sides)
    by_seed = [one[..., 0].sum(axis=1) / one[..., 1].sum(axis=1) for one in sides]
    of_seeds = (by_seed[0] - by_seed[1]).std(ddof=1) / 2
    assert found.standard_error >= of_seeds
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(found.standard_error, rel=0.8)
    assert found.p_value < 0.01
