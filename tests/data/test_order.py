"""The pool's random order: a keyed permutation of which a sample is a prefix."""

import hashlib
import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chi2_contingency, chisquare

from gradual.data.order import derive_seed, draw
from gradual.errors import InputError

SEEDS = st.integers(0, 2**64)


# One order, and every sample a prefix of it


@pytest.mark.parametrize("sizes", [range(300), range(300, 1000, 3), range(1000, 1050), range(1050, 2001, 3)], ids=str)
def test_the_whole_pool_is_a_permutation_of_it(sizes):
    for size in sizes:
        assert np.array_equal(np.sort(draw(size, size, seed=size)), np.arange(size)), size


@given(st.integers(50, 200_000), SEEDS)
def test_a_large_pool_is_permuted_too(size, seed):
    order = draw(size, size, seed)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(size))


@given(st.data(), st.integers(20, 5000) | st.integers(20, 10**15), SEEDS)
def test_a_smaller_sample_is_a_prefix_of_a_larger_one(data, pool_size, seed):
    amount = data.draw(st.integers(0, min(pool_size, 300)))
    fewer = data.draw(st.integers(0, amount))
    sample = draw(pool_size, amount, seed)
    assert sample.shape == (amount,)
    assert len(set(sample.tolist())) == amount
    assert all(0 <= index < pool_size for index in sample)
    assert np.array_equal(draw(pool_size, fewer, seed), sample[:fewer])
    assert np.array_equal(draw(pool_size, amount, seed), sample)


def test_other_seeds_give_other_samples():
    samples = {tuple(draw(1000, 10, seed)) for seed in range(500)}
    assert len(samples) == 500
    assert len({tuple(sorted(sample)) for sample in samples}) == 500


# The order as its definition has it, in Python's own whole numbers

WORD = 2**64


def mix(value):
    """SplitMix64's finalizer."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB % WORD
    return value ^ value >> 31


def naive_draw(pool_size, amount, seed):
    half = 5
    while 4**half < pool_size:
        half += 1
    digest = hashlib.sha512(f"gradual pool order {seed}".encode()).digest()
    keys = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, 64, 8)]

    def permuted(value):
        left, right = divmod(value, 2**half)
        for key in keys:
            left, right = right, left ^ mix(right ^ key) % 2**half
        return left * 2**half + right

    sample = []
    for position in range(amount):
        value = permuted(position)
        while value >= pool_size:
            value = permuted(value)
        sample.append(value)
    return sample


@pytest.mark.parametrize(
    "pool_size", [1, 2, 3, 10, 999, 1023, 1024, 1025, 4096, 4097, 1_000_003, 4**10, 4**10 + 1, 10**9, 10**15]
)
@pytest.mark.parametrize("seed", [0, 1, -7, 2**70])
def test_the_order_is_the_keyed_permutation_of_its_definition(pool_size, seed):
    amount = min(pool_size, 25)
    assert draw(pool_size, amount, seed).tolist() == naive_draw(pool_size, amount, seed)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_computing_in_blocks_changes_nothing(monkeypatch, block):
    at_once = draw(1000, 200, seed=3)
    monkeypatch.setattr("gradual.data.order._BLOCK", block)
    assert np.array_equal(draw(1000, 200, seed=3), at_once)


# Uniformity, over many seeds

POOL, TIMES = 250, 1250


@pytest.fixture(scope="module")
def orders():
    """Shape (TIMES, POOL): one order of the pool for each of many seeds."""
    return np.stack([draw(POOL, POOL, seed) for seed in range(TIMES)])


def is_plausible(p_value):
    """Whether chance explains a statistic: not too uneven, and not more even than chance would have it."""
    return 0.001 < p_value < 0.999


def test_the_first_index_is_uniform():
    first = [draw(1000, 1, seed)[0] for seed in range(5000)]
    assert is_plausible(chisquare(np.bincount(first, minlength=1000)).pvalue)


@pytest.mark.parametrize("position", [0, 1, 2, 31, 32, 33, 125, POOL - 1])
def test_each_position_is_uniform(orders, position):
    assert is_plausible(chisquare(np.bincount(orders[:, position], minlength=POOL)).pvalue)


@pytest.mark.parametrize("amount", [2, 10, 60, 125, 249])
def test_each_index_is_drawn_equally_often(orders, amount):
    drawn = np.bincount(orders[:, :amount].ravel(), minlength=POOL)
    rate = amount / POOL
    # indicators of a sample without replacement vary by rate (1 - rate) and exclude each other a little
    statistic = ((drawn - TIMES * rate) ** 2).sum() / (TIMES * rate * (1 - rate) * POOL / (POOL - 1))
    assert is_plausible(chi2.sf(statistic, POOL - 1))


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (0, 2), (0, 32), (5, 37), (10, 200), (248, 249)])
def test_two_positions_are_independent(orders, pair):
    groups = 5
    size = POOL // groups
    first, second = (orders[:, position] // size for position in pair)
    observed = np.bincount(first * groups + second, minlength=groups**2)
    likely = np.full((groups, groups), size * size / (POOL * (POOL - 1)))
    np.fill_diagonal(likely, size * (size - 1) / (POOL * (POOL - 1)))
    assert is_plausible(chisquare(observed, TIMES * likely.ravel()).pvalue)


@pytest.mark.parametrize("pair", [(0, 1), (0, 32), (100, 101)])
def test_the_distance_between_two_positions_is_uniform(orders, pair):
    distance = (orders[:, pair[1]] - orders[:, pair[0]]) % POOL
    observed = np.bincount(distance, minlength=POOL)
    assert observed[0] == 0
    assert is_plausible(chisquare(observed[1:]).pvalue)


def test_the_order_of_one_seed_says_nothing_about_the_next(orders):
    table = np.zeros((5, 5))
    np.add.at(table, (orders[:-1, 0] // 50, orders[1:, 0] // 50), 1)
    assert is_plausible(chi2_contingency(table).pvalue)


def test_a_sample_of_a_billion_is_spread_evenly():
    sample = draw(10**9, 10**5, seed=0)
    assert is_plausible(chisquare(np.bincount(sample // 10**6, minlength=1000)).pvalue)
    assert is_plausible(chisquare(np.bincount(sample % 1000, minlength=1000)).pvalue)


def test_each_order_of_a_small_pool_is_equally_likely():
    counts = dict.fromkeys(permutations(range(3)), 0)
    for seed in range(36):
        counts[tuple(draw(3, 3, seed).tolist())] += 1
    assert is_plausible(chisquare(list(counts.values())).pvalue)


# Cost and refusals


def test_a_billion_examples_cost_the_memory_of_what_is_drawn():
    draw(10**9, 1, seed=0)
    tracemalloc.start()
    try:
        sample = draw(10**9, 1000, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(set(sample.tolist())) == 1000
    assert sample.max() > 9 * 10**8, "the sample comes from all of the pool"
    assert peak < 50 * sample.nbytes


def test_a_large_sample_costs_little_more_than_itself():
    tracemalloc.start()
    try:
        sample = draw(10**9, 10**6, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(np.unique(sample)) == 10**6
    assert peak < 2 * sample.nbytes


@pytest.mark.parametrize(("pool_size", "amount"), [(10, -1), (10, 11), (0, 1), (0, -1), (-1, 0)])
def test_a_sample_that_cannot_be_drawn_is_refused(pool_size, amount):
    with pytest.raises(InputError, match=f"{amount} examples cannot be drawn from a pool of {pool_size}"):
        draw(pool_size, amount, seed=0)


# Seeds


def test_seeds_are_derived_from_all_their_parts_in_order():
    parts = [(seed, word, number) for seed in range(40) for word in ("epoch", "stage") for number in range(40)]
    parts += [(1, 2), (2, 1), (12,), (1, 23), (12, 3), (1, "2", 3), ()]
    seeds = [derive_seed(*each) for each in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seeds == [derive_seed(*each) for each in parts]


def test_a_derived_seed_is_the_same_on_every_machine():
    digest = hashlib.sha256(b"0/epoch/3").digest()
    assert derive_seed(0, "epoch", 3) == sum(byte << 8 * place for place, byte in enumerate(digest[:4]))


def test_derived_seeds_spread_over_all_bits():
    seeds = np.array([derive_seed(0, "epoch", epoch) for epoch in range(2000)])
    for bit in range(32):
        ones = int((seeds >> bit & 1).sum())
        assert abs(ones - 1000) < 5 * 500**0.5, f"bit {bit}: more than five standard deviations from a half"
