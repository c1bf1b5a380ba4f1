"""Scores become an order: the best first in all and in each source, ties and noise by chance."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from relevance_data import POOL, Texts, module, order_of
from scipy.stats import kstest

from gradual.data.order import draw, gumbel_noise
from gradual.data.relevance.ranking import ranked


def test_equal_scores_are_in_uniform_order():
    found = ranked(np.ones(500, dtype=np.float32), {"": 500}, None, seed=9)
    assert np.array_equal(found.first(500), draw(500, 500, 9))


def test_a_column_orders_numbers_that_are_large_and_close():
    pool = Texts(POOL)
    pool.time = [1_700_000_000 + at for at in range(len(POOL))]
    assert order_of(module({"by": "column", "column": "time"}, pool)) == list(range(len(POOL)))[::-1]


@given(st.data(), st.dictionaries(st.sampled_from("abc"), st.integers(1, 30), min_size=1), st.integers(0, 1000))
def test_the_best_are_first_in_all_and_in_each_source(data, sizes, seed):
    total = sum(sizes.values())
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=total, max_size=total)), dtype=np.float32)
    found = ranked(scores, sizes, None, seed)
    order = found.first(total)
    assert sorted(order.tolist()) == list(range(total))
    assert np.array_equal(scores[order], np.sort(scores)[::-1])
    count = data.draw(st.integers(0, total))
    counts = found.counts(count)
    assert set(found.of_each(counts).tolist()) == set(order[:count].tolist())
    starts = np.cumsum([0, *sizes.values()])
    for at, size in enumerate(sizes.values()):
        inside = order[(starts[at] <= order) & (order < starts[at] + size)]
        assert np.array_equal(found.of_source(at, size), inside)


def test_amounts_by_source_and_weights_keep_the_best_of_each_source():
    pool = {"a": Texts(POOL[:5]), "b": Texts(POOL[5:])}
    data = module("ngrams", pool, schedule=[{"a": 3, "b": 4}, 5, {"b": 1}])
    ranks = {at: rank for rank, at in enumerate(order_of(module("ngrams", pool)))}  # source by source
    data.set_stage(0)
    assert [sum(at < 5 for at in data.sample()), sum(at >= 5 for at in data.sample())] == [3, 4]
    data.set_stage(2)
    (best,) = order_of(data)
    assert ranks[best] == min(ranks[at] for at in range(5, 10))


def test_noise_is_gumbel_noise_in_standard_deviations():
    noise = gumbel_noise(np.arange(20_000), 3)
    assert kstest(noise, "gumbel_r").pvalue > 0.001
    assert np.array_equal(gumbel_noise(np.array([7, 5]), 3), noise[[7, 5]])
    scores = np.random.default_rng(0).normal(3, 0.1, 1000).astype(np.float32)
    wanted = np.argsort(-(scores + 0.5 * scores.std(dtype=np.float64) * gumbel_noise(np.arange(1000), 8)))
    found = ranked(scores, {"": 1000}, None, seed=8, noise=0.5).first(1000)
    assert (found == wanted).mean() > 0.98  # but for the last bits of sums
    orders = [ranked(scores, {"": 1000}, None, seed, noise).first(100) for seed, noise in ((0, 0), (0, 0.5), (1, 0.5))]
    means = [scores[order].mean() for order in orders]
    assert means[0] > means[1] > scores.mean()
    assert set(orders[1]) != set(orders[2]), "other seeds, other noise"
    far = np.mean([scores[ranked(scores, {"": 1000}, None, seed, 1000).first(100)].mean() for seed in range(20)])
    assert abs(far - scores.mean()) < 0.01, "much noise is a uniform order"
