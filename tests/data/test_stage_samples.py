"""What each stage draws from the pool: nested samples of any schedule, of a pool of any size."""

import tracemalloc
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_data import IN_DOMAIN, POOL, SCHEDULE, Named, mixed, module

from gradual.errors import InputError
from gradual.schedule import Schedule


def test_a_stage_mixes_all_in_domain_examples_with_its_sample():
    data = module()
    for k, amount in enumerate(SCHEDULE):
        data.set_stage(k)
        sample = [POOL[index] for index in data.sample()]
        assert len(set(sample)) == amount
        assert mixed(data) == IN_DOMAIN + sorted(sample)
        assert data.stage == k


def test_samples_are_nested():
    data = module()
    samples = []
    for k in range(len(SCHEDULE)):
        data.set_stage(k)
        samples.append(data.sample().tolist())
    for larger, smaller in pairwise(samples):
        assert smaller == larger[: len(smaller)]
    assert samples[0] != sorted(samples[0]), "a random sample, not the first examples"


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.booleans())
def test_a_sample_does_not_depend_on_what_was_called_before(stages, setup_first):
    data = module()
    if setup_first:
        data.setup("fit")
    for k in stages:
        data.set_stage(k)
        data.sample()
    fresh = module()
    fresh.setup("fit")
    fresh.set_stage(stages[-1])
    assert np.array_equal(data.sample(), fresh.sample())
    assert data.train_dataloader().dataset[-1] == fresh.train_dataloader().dataset[-1]
    assert [b for b in data.train_dataloader()] == [b for b in fresh.train_dataloader()]  # noqa: C416


def test_a_stage_may_be_set_before_setup_twice_and_backwards():
    data = module()
    data.set_stage(3)
    data.set_stage(3)
    data.setup("fit")
    assert mixed(data) == IN_DOMAIN
    data.set_stage(0)
    assert len(mixed(data)) == 30
    data.setup("fit")
    assert data.stage == 0


@pytest.mark.parametrize("k", [-1, 4, 1.0, True, "1", None])
@pytest.mark.parametrize("is_set_up", [False, True])
def test_a_stage_that_is_not_there_is_refused(k, is_set_up):
    data = module()
    data.set_stage(1)
    if is_set_up:
        data.setup("fit")
    with pytest.raises(InputError, match=f"no stage {k!r}: the schedule has 4"):
        data.set_stage(k)
    assert data.stage == 1


def test_the_seed_decides_the_sample_and_the_order():
    samples, orders = [], []
    for seed in (0, 1, 0):
        data = module(seed=seed)
        samples.append(data.sample().tolist())
        orders.append(list(data.train_dataloader()))
    assert samples[0] == samples[2] != samples[1]
    assert orders[0] == orders[2] != orders[1]
    data.seed = 1
    assert data.sample().tolist() == samples[1]


def test_a_stage_that_two_schedules_share_is_the_same_in_both():
    long, short, other = module(), module(schedule=[20, 10]), module(schedule=[15, 10])
    batches = []
    for data in (long, short, other):
        data.set_stage(1)
        batches.append(list(data.train_dataloader()))
    assert batches[0] == batches[1]
    assert batches[0] != batches[2], "it came there by another way"
    assert sorted(chain(*batches[0])) == sorted(chain(*batches[2])), "but with the same sample"


def test_amounts_are_counts_and_fractions_become_counts():
    assert module().amounts == SCHEDULE
    assert module(schedule=[1.0, 0.5, 0.1, 0.0]).amounts == [50, 25, 5, 0]
    assert module(schedule=[25, 0.5, 3]).amounts == [25, 25, 3]
    with pytest.raises(InputError, match="rises from 10 to 25"):
        module(schedule=[10, 0.5]).setup()


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ([50, 10, 0], []),
        ([1.0, 0.5, 1, 0.0], []),
        ([1, 0], ["Stage 1 has 1 out-of-domain example; 1.0 would be all of the pool."]),
        ([0.3, 0.001, 0], ["Stage 2 has no out-of-domain examples: 0.001 of the pool's 50 rounds to 0."]),
        ([0], ["No stage uses the pool of 50 out-of-domain examples: a schedule such as [1.0, 0.5, 0] would."]),
        ([20, 10], ["The schedule ends with 10 out-of-domain examples; the paper's ends with 0."]),
        (
            [1],
            [
                "Stage 1 has 1 out-of-domain example; 1.0 would be all of the pool.",
                "The schedule ends with 1 out-of-domain example; the paper's ends with 0.",
            ],
        ),
    ],
)
def test_amounts_that_may_not_be_meant_are_remarked_on(schedule, said):
    assert module().remarks_on(Schedule(schedule)) == said


def test_without_a_pool_there_is_nothing_to_remark_on():
    assert module(pool=None, schedule=[0]).remarks_on(Schedule([0])) == []


def test_amounts_of_sources_and_of_tokens_are_remarked_on_as_well():
    pool = {"books": POOL[:40], "dvd": POOL[40:49], "rest": POOL[49:]}
    schedule = Schedule([{"books": 1, "dvd": 0.01, "rest": 1}, 0.01, 0])
    assert module(pool=pool).remarks_on(schedule) == [
        "Stage 1 has 1 example of 'books'; 1.0 would be all of 'books'.",
        "Stage 1 has no examples of 'dvd': 0.01 of its 9 rounds to 0.",
        "Stage 2 has no out-of-domain examples: 0.01 of the pool's 50 rounds to 0.",
    ]
    pool = Named(POOL)
    pool.lengths = np.full(50, 7)
    tokens = module(pool=pool, amount_in="tokens")
    assert tokens.remarks_on(Schedule([1, 0.001, 0])) == [
        "Stage 1 has 1 out-of-domain token; 1.0 would be all of the pool.",
        "Stage 2 has no out-of-domain tokens: 0.001 of the pool's 350 rounds to 0.",
    ]
    assert tokens.remarks_on(Schedule([0.1]))[0].startswith("The schedule ends with 35 out-of-domain tokens;")


def test_a_new_schedule_goes_back_to_the_first_stage():
    data = module()
    data.set_stage(2)
    data.schedule = [30, 0]
    assert (data.stage, data.amounts) == (0, [30, 0])
    assert data.schedule == Schedule([30, 0])
    assert len(mixed(data)) == 40


def test_a_schedule_that_is_refused_leaves_the_old_one():
    data = module()
    data.setup("fit")
    data.set_stage(1)
    for refused in ([51], [0, 5], []):
        with pytest.raises(InputError):
            data.schedule = refused
        assert data.schedule == Schedule(SCHEDULE)
        assert (data.stage, data.amounts) == (1, SCHEDULE)


def test_without_a_pool_the_in_domain_data_is_all_there_is():
    data = module(pool=None, schedule=[0])
    assert mixed(data) == IN_DOMAIN
    assert (data.pool_size, data.amounts, data.sample_ids()) == (0, [0], [])
    assert module(pool=None, schedule=[1.0, 0]).amounts == [0, 0]


def test_without_a_pool_there_is_nothing_to_draw():
    data = module(pool=None, schedule=[5])
    for _ in range(2):  # it does not get better by asking again
        with pytest.raises(InputError, match="asks for 5 out-of-domain examples, but the pool holds 0"):
            data.setup("fit")
    with pytest.raises(InputError, match="the pool holds 0"):
        _ = data.amounts
    data.schedule = [0]
    assert mixed(data) == IN_DOMAIN


def test_more_than_the_pool_holds_is_refused():
    with pytest.raises(InputError, match="asks for 51 out-of-domain examples, but the pool holds 50"):
        module(schedule=[51]).setup()


def test_the_pool_alone_can_be_trained_on():
    data = module([], schedule=[50, 5])
    assert mixed(data) == POOL
    data.set_stage(1)
    assert mixed(data) == sorted(POOL[index] for index in data.sample())


@pytest.mark.parametrize("schedule", [[0], [5, 0], [5, 0.0]])
def test_a_stage_without_any_example_is_refused(schedule):
    data = module([], schedule=schedule)
    for _ in range(2):
        with pytest.raises(InputError, match="no training examples"):
            data.setup("fit")
    data = module([], schedule=[5])
    data.setup("fit")
    with pytest.raises(InputError, match="no training examples"):
        data.schedule = schedule


class Untouched:
    """A dataset of any size that nobody may read from."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        raise AssertionError("read an example")


def test_a_stage_of_a_billion_examples_reads_none_and_costs_its_sample():
    data = module(pool=Untouched(10**9), val=Untouched(5), schedule=[1000, 10])
    tracemalloc.start()
    try:
        for k in (0, 1):
            data.set_stage(k)
            assert len(data.sample_ids()) == data.amounts[k]
            assert data.steps_per_epoch() == -(-(10 + data.amounts[k]) // 32)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_the_pool_is_what_is_left_of_it():
    data = module(id_of=str, test=[100], schedule=[50])
    with pytest.raises(InputError, match="the pool holds 49"):
        data.setup("fit")
    assert module(id_of=str, test=[100], schedule=[1.0]).amounts == [49]
