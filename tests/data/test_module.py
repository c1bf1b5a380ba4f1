"""In-domain data mixed with a stage's sample of the pool, for any map-style datasets."""

import logging
import tracemalloc
from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import fast_one_in
from torch.utils.data import Dataset, TensorDataset

from gradual.data.module import Domains, MixedDomainDataModule
from gradual.errors import InputError
from gradual.schedule import Schedule, Stage

IN_DOMAIN, POOL = list(range(10)), list(range(100, 150))
SCHEDULE = [20, 10, 5, 0]


class Named(Dataset):
    """A dataset that knows its examples' ids."""

    def __init__(self, ids, values=None):
        self.ids = list(ids)
        self.values = list(values or ids)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


class Listed(list):
    """A list that is a dataset, as it stands."""


def same(batch):
    return batch


def module(in_domain=IN_DOMAIN, pool=POOL, val=None, test=None, **settings):
    return MixedDomainDataModule(in_domain, pool, val, test, **{"schedule": SCHEDULE, "collate_fn": same, **settings})


def mixed(data):
    """All examples of an epoch of the current stage."""
    return sorted(example for batch in data.train_dataloader() for example in batch)


# Stages


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


def test_epochs_shuffle_both_domains_together():
    loader = module(batch_size=30).train_dataloader()
    (first,) = loader
    loader.batch_sampler.set_epoch(1)
    (second,) = loader
    assert first != second
    assert sorted(first) == sorted(second)
    places = [place for place, example in enumerate(first) if example in IN_DOMAIN]
    assert places != list(range(10)), "in-domain examples do not come first"


# Amounts, steps and batch sizes


def test_amounts_are_counts_and_fractions_become_counts():
    assert module().amounts == SCHEDULE
    assert module(schedule=[1.0, 0.5, 0.1, 0.0]).amounts == [50, 25, 5, 0]
    assert module(schedule=[25, 0.5, 3]).amounts == [25, 25, 3]
    with pytest.raises(InputError, match="rises from 10 to 25"):
        module(schedule=[10, 0.5]).setup()


def test_a_stage_may_have_a_batch_size_of_its_own():
    data = module(schedule=[20, Stage(10, batch_size=3), {"amount": 0, "batch_size": 10}], batch_size=8)
    for k, (batch_size, steps) in enumerate([(8, 4), (3, 7), (10, 1)]):
        data.set_stage(k)
        batches = list(data.train_dataloader())
        assert data.train_batch_size() == str(batch_size)
        assert max(map(len, batches)) == batch_size
        assert data.steps_per_epoch() == len(batches) == len(data.train_dataloader()) == steps


class Texts(list):
    """A dataset that knows how long its examples are."""

    @property
    def lengths(self):
        return np.array([len(text) for text in self])


def test_batches_may_hold_a_number_of_tokens():
    texts, pool = Texts(["a" * n for n in range(1, 11)]), Texts(["b" * n for n in range(1, 31)])
    schedule = [20, Stage(0, batch_size=2)]
    data = MixedDomainDataModule(texts, pool, texts, texts, schedule=schedule, batch_tokens=60, collate_fn=list)
    batches = list(data.train_dataloader())
    assert sum(map(len, batches)) == 30
    total = len("".join(chain.from_iterable(batches)))
    assert data.steps_per_epoch() == len(batches) == -(-total // 60)
    assert data.train_batch_size() == "60 tokens"
    assert [len("".join(batch)) for batch in data.val_dataloader()] == [55]
    data.set_stage(1)
    assert [len(batch) for batch in data.train_dataloader()] == [2] * 5, "a stage's own batch size counts examples"


def test_batches_of_tokens_need_to_know_the_lengths():
    data = MixedDomainDataModule(["a"], None, ["b"], batch_tokens=5)
    with pytest.raises(InputError, match="list has no lengths"):
        data.train_dataloader()


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "batch_tokens"])
def test_a_batch_holds_an_example_at_least(name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        module(**{name: 0})
    module(**{name: 1})


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


# Datasets


@pytest.mark.parametrize("kind", [list, tuple, Listed, range, Named], ids=lambda kind: kind.__name__)
def test_any_map_style_dataset_will_do(kind):
    make = {range: lambda values: range(values[0], values[-1] + 1)}.get(kind, kind)
    data = module(make(IN_DOMAIN), make(POOL), make([7000, 7001]), make([8000]))
    assert mixed(data)[:10] == IN_DOMAIN
    assert len(mixed(data)) == 30
    assert list(data.val_dataloader()) == [[7000, 7001]]
    assert list(data.test_dataloader()) == [[8000]]


def test_without_a_collate_function_torch_makes_the_batches():
    data = MixedDomainDataModule(TensorDataset(torch.zeros(4, 3)), TensorDataset(torch.ones(6, 3)), schedule=[6, 0])
    ((features,),) = data.train_dataloader()
    assert features.shape == (10, 3)
    assert features.sum() == 18


def test_examples_in_the_batch_go_through_the_collate_function():
    data = module(collate_fn=sum, batch_size=5)
    assert sum(data.train_dataloader()) == sum(IN_DOMAIN) + sum(POOL[index] for index in data.sample())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_deliver_the_same_batches():
    alone, workers = module(batch_size=4).train_dataloader(), module(batch_size=4, num_workers=2).train_dataloader()
    for epoch in range(2):
        for loader in (alone, workers):
            loader.batch_sampler.set_epoch(epoch)
        assert list(workers) == list(alone)


def test_evaluation_keeps_the_order_and_has_a_batch_size_of_its_own():
    data = module(val=[5, 3, 4, 1], test=[9, 8], batch_size=3, eval_batch_size=2, schedule=[Stage(0, batch_size=7)])
    assert list(data.val_dataloader()) == [[5, 3], [4, 1]]
    assert list(data.test_dataloader()) == [[9, 8]]
    assert list(module(val=[5, 3, 4, 1], batch_size=3).val_dataloader()) == [[5, 3, 4], [1]]


def test_prediction_falls_back_on_the_test_data():
    class Predicting(MixedDomainDataModule):
        def load(self):
            return Domains([1], val=[2], test=[3], predict=self.predict)

    data = Predicting(collate_fn=same)
    data.predict = None
    assert list(data.predict_dataloader()) == [[3]]
    data = Predicting(collate_fn=same)
    data.predict = [4]
    assert list(data.predict_dataloader()) == [[4]]


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        ("val_dataloader", "no validation data"),
        ("test_dataloader", "no test data"),
        ("predict_dataloader", "no predict"),
    ],
)
def test_data_that_is_not_there_is_missed_when_it_is_asked_for(loader, says):
    with pytest.raises(InputError, match=f"MixedDomainDataModule has {says}"):
        getattr(module(), loader)()


# Loading


class Loading(MixedDomainDataModule):
    """A task's data module: counts how often it loads."""

    loads = 0

    def load(self):
        self.loads += 1
        return Domains(IN_DOMAIN, POOL, [200], [300])


def test_a_subclass_loads_its_data_once():
    data = Loading(schedule=SCHEDULE, collate_fn=same)
    assert data.loads == 0, "not before it is needed"
    for stage in ("fit", "validate", "test", None):
        data.setup(stage)
    for k in range(4):
        data.set_stage(k)
        assert len(mixed(data)) == 10 + SCHEDULE[k]
    data.schedule = [3]
    assert list(data.val_dataloader()) == [[200]]
    assert list(data.test_dataloader()) == [[300]]
    assert data.loads == 1


def test_properties_of_the_data_are_known_without_setup():
    for name in ("amounts", "pool_size", "in_domain_size", "domains"):
        data = Loading(schedule=SCHEDULE)
        assert getattr(data, name)
        assert data.loads == 1
    assert Loading(schedule=SCHEDULE).steps_per_epoch() == 1
    assert len(Loading(schedule=SCHEDULE).sample_ids()) == 20


def test_no_in_domain_data_and_no_load_is_an_error():
    with pytest.raises(InputError, match=r"pass in_domain, or implement load\(\)"):
        MixedDomainDataModule().setup()


# No pool, no in-domain data


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


# Ids


def test_the_ids_of_a_sample_are_those_of_its_examples():
    plain, named = module(), module(pool=Named([f"dialogue-{n}" for n in range(50)], POOL))
    told = module(id_of=lambda example: f"number {example}")
    sample = plain.sample().tolist()
    assert plain.sample_ids() == [str(index) for index in sample]
    assert named.sample_ids() == [f"dialogue-{index}" for index in sample]
    assert told.sample_ids() == [f"number {POOL[index]}" for index in sample]
    told.set_stage(3)
    assert told.sample_ids() == []


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


@given(st.lists(st.integers(0, 40), max_size=30), st.sets(st.integers(0, 40), min_size=1), st.integers(0, 9))
@pytest.mark.parametrize("kind", fast_one_in(2, [list, np.array, pd.Index]))
def test_the_rest_of_a_pool_is_that_of_a_naive_pass(kind, ids, held_out, seed):
    pool, val = Named([], range(len(ids))), Named([], sorted(held_out))
    pool.ids, val.ids = kind(ids), kind(sorted(held_out))
    data = module([7], pool, val, schedule=[1.0], seed=seed)
    left = [position for position, id_ in enumerate(ids) if id_ not in held_out]
    assert sorted(data.sample()) == left
    assert data.pool_size == len(left)
    assert data.sample_ids() == [str(ids[index]) for index in data.sample()]


class AtOnce(Named):
    """A dataset that reads a batch at once, and says which."""

    def __init__(self, values):
        super().__init__([], values)
        self.reads = []

    def __getitems__(self, indices):
        assert all(type(index) is int for index in indices)
        self.reads.append(indices)
        return [self.values[index] for index in indices]


def test_datasets_that_read_a_batch_at_once_are_asked_for_one():
    in_domain, pool = AtOnce(IN_DOMAIN), AtOnce(POOL)
    data, plain = module(in_domain, pool, batch_size=7), module(batch_size=7)
    assert list(data.train_dataloader()) == list(plain.train_dataloader())
    assert len(in_domain.reads) <= 5 >= len(pool.reads), "as many as there are batches, at most"
    half = module(in_domain, POOL, batch_size=7)
    assert list(half.train_dataloader()) == list(plain.train_dataloader())


def left_out(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("gradual")]


@pytest.mark.parametrize("how", ["ids", "id_of"])
def test_held_out_examples_are_left_out_of_training_with_one_note(caplog, how):
    in_domain, pool, val, test = IN_DOMAIN, POOL, [3, 200], [5, 107, 149]
    if how == "ids":
        datasets = [Named(map(str, values), values) for values in (in_domain, pool, val, test)]
        data = module(*datasets, schedule=[48, 10])
    else:
        data = module(in_domain, pool, val, test, schedule=[48, 10], id_of=str)
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
        data.setup("test")
        data.setup("fit")
    (message,) = left_out(caplog)
    assert "2 in-domain and 2 out-of-domain" in message
    assert (data.in_domain_size, data.pool_size) == (8, 48)
    rest = sorted({*IN_DOMAIN, *POOL} - {*val, *test})
    assert mixed(data) == rest
    assert sorted(map(int, data.sample_ids())) == rest[8:]
    assert sorted(POOL[index] for index in data.sample()) == rest[8:], "indices are those of the dataset"
    assert data.steps_per_epoch() == 2
    data.set_stage(1)
    assert set(mixed(data)) < set(rest)
    assert list(data.val_dataloader()) == [val]
    assert list(data.test_dataloader()) == [test]


def test_the_pool_is_what_is_left_of_it():
    data = module(id_of=str, test=[100], schedule=[50])
    with pytest.raises(InputError, match="the pool holds 49"):
        data.setup("fit")
    assert module(id_of=str, test=[100], schedule=[1.0]).amounts == [49]


def test_in_domain_data_that_is_all_held_out_is_no_data():
    with pytest.raises(InputError, match="no training examples"):
        module([1, 2], None, val=[1, 2], id_of=str, schedule=[0]).setup()


def test_positions_say_nothing_about_identity(caplog):
    data = module(val=[3, 4], test=[100])
    named_on_one_side = module(Named("abcdefghij", IN_DOMAIN), POOL, val=[3], test=Named("xyz", [1, 2, 3]))
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
        named_on_one_side.setup("fit")
    assert left_out(caplog) == []
    assert data.in_domain_size == named_on_one_side.in_domain_size == 10
    assert data.pool_size == named_on_one_side.pool_size == 50


def test_without_left_out_examples_nothing_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        module(val=[200], test=[300], id_of=str).setup("fit")
    assert left_out(caplog) == []


@pytest.mark.parametrize("id_", ["", " ", "a\nb", "a\rb", "a\u2028b"])
def test_an_id_that_is_no_line_is_refused(id_):
    """A stage's sample is written down, an id a line."""
    module = MixedDomainDataModule([1], [2, 3], id_of=lambda example: id_ if example == 3 else f"{example}/../x")
    module.schedule = [1.0]
    with pytest.raises(InputError, match="a single line of text"):
        module.sample_ids()
