"""A pool with named sources: nested by source and in total, with or without weights, in examples and in tokens."""

import heapq
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from gradual import InputError, MixedDomainDataModule, Schedule, Source
from gradual.data.order import derive_seed, draw
from gradual.data.pool_order import UniformOrder, apportion, by_turns
from gradual.data.sources import Pool

BOOKS, DVD, TOYS = list(range(100, 150)), list(range(200, 230)), list(range(300, 310))
ALL = {"toys": TOYS, "books": BOOKS, "dvd": DVD}


class Sized(list):
    """A list of examples with ids and a number of tokens each."""

    def __init__(self, name, lengths):
        super().__init__(range(len(lengths)))
        self.ids = [f"{name}{at}" for at in range(len(lengths))]
        self.lengths = np.array(lengths)


def module(pool=ALL, schedule=(0,), **settings):
    data = MixedDomainDataModule([1, 2, 3], pool, schedule=schedule, collate_fn=list, **settings)
    data.setup()
    return data


def samples(data):
    """The examples of the pool in each stage."""
    found = []
    for k in range(len(data.schedule)):
        data.set_stage(k)
        found.append([data.domains.out_of_domain[at] for at in data.sample().tolist()])
    return found


# The order


SIZES = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 60), min_size=1)


@given(st.data(), SIZES, st.booleans(), st.integers(0, 2**40))
def test_samples_are_nested_by_source_and_in_total(data, sizes, weighted, seed):
    weights = [data.draw(st.floats(0.01, 100)) for _ in sizes] if weighted else None
    order = UniformOrder(sizes, weights, seed)
    larger = data.draw(st.integers(0, order.size))
    smaller = data.draw(st.integers(0, larger))
    before, after = order.counts(larger), order.counts(smaller)
    assert (sum(before), sum(after)) == (larger, smaller)
    assert all(0 <= less <= more <= size for less, more, size in zip(after, before, sizes.values()))
    first = order.first(larger)
    assert np.array_equal(order.first(smaller), first[:smaller]), "a prefix"
    assert len(set(first.tolist())) == larger
    assert set(order.of_each(before).tolist()) == set(first.tolist()), "the same examples, source by source"
    starts = np.cumsum([0, *sizes.values()])
    for at, size in enumerate(sizes.values()):
        own = first[(starts[at] <= first) & (first < starts[at] + size)]
        assert np.array_equal(own, order.of_source(at, before[at])), "each source in its own order"


def naive_apportion(total, sizes, weights):
    """One example after the other, in exact arithmetic."""
    counts, parts = [0] * len(sizes), []
    heap = [(1 / Fraction(weight), k) for k, weight in enumerate(weights) if sizes[k]]
    heapq.heapify(heap)
    for _ in range(total):
        _, k = heapq.heappop(heap)
        counts[k] += 1
        parts.append(k)
        if counts[k] < sizes[k]:
            heapq.heappush(heap, ((2 * counts[k] + 1) / Fraction(weights[k]), k))
    return counts, parts


@given(st.data(), st.lists(st.tuples(st.integers(0, 300), st.integers(1, 64)), min_size=1, max_size=6))
def test_totals_are_divided_as_by_hand(data, parts):
    sizes, weights = zip(*parts)
    total = data.draw(st.integers(0, sum(sizes)))
    counts, turns = naive_apportion(total, sizes, weights)
    assert apportion(total, sizes, weights) == counts
    assert by_turns(counts, weights).tolist() == turns


def test_weights_are_shares_until_a_source_is_used_up():
    assert apportion(100, [1000, 1000], [3, 1]) == [75, 25]
    assert apportion(100, [10, 1000, 1000], [8, 1, 1]) == [10, 45, 45]
    assert apportion(10**7, [10**7, 10**7], [2.0, 1.0]) == [6666667, 3333333]


def test_a_total_without_weights_is_uniform_over_all_examples():
    sizes = {"a": 50, "b": 30, "c": 10}
    drawn = np.zeros(90)
    for seed in range(80):
        drawn[UniformOrder(sizes, None, seed).first(30)] += 1
    assert 0.001 < chisquare(drawn).pvalue < 0.9999


def test_the_order_of_a_source_does_not_depend_on_the_others():
    alone, both = UniformOrder({"b": 30}, None, 7), UniformOrder({"a": 50, "b": 30}, None, 7)
    assert np.array_equal(alone.of_source(0, 20), both.of_source(1, 20) - 50)
    assert np.array_equal(alone.of_source(0, 20), draw(30, 20, derive_seed(7, "source", "b")))


def test_a_pool_without_names_keeps_its_order():
    order = UniformOrder({"": 1000}, None, 5)
    assert np.array_equal(order.first(100), draw(1000, 100, 5))
    assert np.array_equal(module(BOOKS, [20], seed=3).sample(), draw(50, 20, 3))


# Stages


def test_amounts_in_all_and_by_source_mix():
    data = module(schedule=[60, {"books": 20, "dvd": 10}, {"dvd": 0.1, "books": 5}, 0])
    found = samples(data)
    for larger, smaller in pairwise(found):
        assert set(smaller) < set(larger)
    assert data.amounts == [60, 30, 8, 0]
    data.set_stage(1)
    assert data.composition == {"books": 20, "dvd": 10, "toys": 0}
    assert (sum(at in BOOKS for at in found[1]), sum(at in DVD for at in found[1])) == (20, 10)
    data.set_stage(2)
    assert data.composition == {"books": 5, "dvd": 3, "toys": 0}


def test_the_order_in_which_sources_are_written_does_not_matter():
    other = dict(reversed(ALL.items()))
    assert samples(module(schedule=[40, 7], seed=2)) == samples(module(other, [40, 7], seed=2))


def test_ids_carry_the_names_of_sources():
    pool = {"b": Sized("x", [1] * 4), "a": BOOKS[:3]}
    data = module(pool, [1.0])
    assert sorted(data.sample_ids()) == ["a/0", "a/1", "a/2", "b/x0", "b/x1", "b/x2", "b/x3"]
    assert data.sample_ids()[0].startswith("a/"), "one source after the other"


def test_examples_that_are_held_out_are_left_out_of_each_source():
    pool = {"a": Sized("a", [1] * 6), "b": BOOKS, "c": Sized("c", [1] * 6)}
    val = Sized("a", [1] * 2)
    val.ids[1] = "c5"
    data = MixedDomainDataModule([1], pool, val, schedule=[1.0])
    data.setup()
    assert data.source_sizes == {"a": 5, "b": 50, "c": 5}
    assert data.left_out("out_of_domain").tolist() == [0, 61]
    assert {"a/a0", "c/c5"}.isdisjoint(data.sample_ids())
    assert len(set(data.sample_ids())) == 60
    assert data.statistics()["examples"]["pool, a"] == 5


def test_the_composition_of_a_total_depends_on_the_seed_alone():
    data = module(schedule=[30, 10])
    before = data.composition
    data.seed = 1
    other = data.composition
    data.seed = 0
    assert data.composition == before == data.compositions(data.schedule, 0)[0]
    assert other == data.compositions(data.schedule, 1)[0]
    assert sum(other.values()) == 30


# Tokens


@settings(max_examples=settings.default.max_examples // 3)
@given(st.data(), st.lists(st.integers(1, 20), min_size=1, max_size=80), st.lists(st.integers(1, 20), min_size=1))
def test_an_amount_in_tokens_is_the_most_examples_that_have_no_more(data, first, second):
    named = data.draw(st.booleans())
    pool = {"a": Sized("a", first), "b": Sized("b", second)} if named else Sized("a", first)
    lengths = [*first, *second] if named else first
    total = sum(lengths)
    tokens = sorted(data.draw(st.lists(st.integers(0, total), min_size=1, max_size=3)), reverse=True)
    datamodule = module(pool, tokens, amount_in="tokens")
    order = UniformOrder({"a": len(first), "b": len(second)} if named else {"": len(first)}, None, 0)
    positions = order.first(order.size).tolist()
    for k, most in enumerate(tokens):
        kept, used = [], 0
        for at in positions:
            if used + lengths[at] > most:
                break
            used += lengths[at]
            kept.append(at)
        datamodule.set_stage(k)
        assert sorted(datamodule.sample().tolist()) == sorted(kept)
        assert datamodule.sample_tokens() == used
    assert datamodule.amounts_of(datamodule.schedule) == tokens


def test_tokens_by_source():
    data = module({"a": Sized("a", [10] * 5), "b": Sized("b", [3] * 9)}, [{"a": 29, "b": 1.0}, 0.5], amount_in="tokens")
    assert data.composition == {"a": 2, "b": 9}
    data.set_stage(1)
    assert data.sample_tokens() <= 38
    with pytest.raises(InputError, match="asks for 78 out-of-domain tokens, but the pool holds 77"):
        module({"a": Sized("a", [10] * 5), "b": Sized("b", [3] * 9)}, [78], amount_in="tokens")


# What is refused


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ([{"books": 51}], "Stage 1 of the schedule asks for 51 out-of-domain examples, but 'books' holds 50"),
        ([{"boks": 5}], "asks for examples of 'boks', but the pool's sources are books, dvd, toys. Did you mean"),
        ([{"books": 5}, {"books": 6}], "rises from 5 to 6 for 'books'"),
        ([{"books": 5}, {"dvd": 5}], "rises from 0 to 5 for 'dvd'"),
        ([{"books": 5}, 6], "rises from 5 to 6"),
        ([91], "asks for 91 out-of-domain examples, but the pool holds 90"),
        ([{"books": 5, "dvd": 20}, 20], "Stage 1 of the schedule has 5 examples of 'books', and stage 2 has"),
    ],
)
def test_amounts_that_do_not_fit_the_sources(schedule, says):
    with pytest.raises(InputError, match=says):
        module(schedule=schedule)


def test_amounts_by_source_need_named_sources():
    with pytest.raises(InputError, match="Stage 1 of the schedule has amounts for books, but the pool has no named"):
        module(BOOKS, [{"books": 5}])


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ({}, "The pool has no sources"),
        ({"a/b": BOOKS}, "A source is called 'a/b'"),
        ({"in-domain": BOOKS}, "A source is called 'in-domain'"),
        ({1: BOOKS}, "A source is called 1"),
        ({"a": Source(BOOKS, 1), "b": DVD}, "The source 'b' has no weight"),
        ({"a": "books.jsonl"}, "files are read by gradual.FileDataModule"),
    ],
)
def test_sources_that_cannot_be_used(pool, says):
    with pytest.raises(InputError, match=says):
        module(pool)


@pytest.mark.parametrize("weight", [0, -1, "2", float("inf")])
def test_a_weight_is_a_positive_number(weight):
    with pytest.raises(InputError, match="The weight of a source is"):
        Source(BOOKS, weight)


def test_tokens_need_lengths():
    with pytest.raises(InputError, match="amount_in: tokens needs the length of each example, but list has no lengths"):
        module(BOOKS, [5], amount_in="tokens")
    with pytest.raises(InputError, match="amount_in is 'words': it must be 'examples' or 'tokens'"):
        module(amount_in="words")


# The short form


def test_a_mapping_of_numbers_is_an_amount_by_source():
    schedule = Schedule([{"books": 500, "dvd": 0.5}, {"amount": {"books": 100}, "max_epochs": 3}, 0])
    assert schedule[0].amount == {"books": 500, "dvd": 0.5}
    assert schedule[1].amount == {"books": 100}
    assert schedule[1].max_epochs == 3
    assert Schedule(schedule.to_list()) == schedule
    with pytest.raises(InputError, match="Stage 1 of the schedule has no 'amount'"):
        Schedule([{"max_epochs": 8}])
    with pytest.raises(InputError, match="rises from 1 to 2 for 'books'"):
        Schedule([{"books": 1}, {"books": 2}])
    with pytest.raises(InputError, match="an amount without any source"):
        Schedule([{"amount": {}}])


def test_a_pool_is_all_its_sources():
    pool = Pool(ALL)
    assert pool.names == ("books", "dvd", "toys")
    assert [pool[at] for at in range(len(pool))] == [*BOOKS, *DVD, *TOYS]
    assert pool.source_of(np.array([0, 49, 50, 79, 80])).tolist() == [0, 0, 1, 1, 2]
