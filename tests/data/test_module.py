"""In-domain data mixed with a stage's sample of the pool, as batches of any map-style datasets."""

from itertools import chain

import numpy as np
import pytest
import torch
from mixed_data import IN_DOMAIN, POOL, SCHEDULE, Named, mixed, module, same
from torch.utils.data import TensorDataset

from gradual.data.domains import Domains
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError
from gradual.schedule import Stage


class Listed(list):
    """A list that is a dataset, as it stands."""


def test_epochs_shuffle_both_domains_together():
    loader = module(batch_size=30).train_dataloader()
    (first,) = loader
    loader.batch_sampler.set_epoch(1)
    (second,) = loader
    assert first != second
    assert sorted(first) == sorted(second)
    places = [place for place, example in enumerate(first) if example in IN_DOMAIN]
    assert places != list(range(10)), "in-domain examples do not come first"


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
