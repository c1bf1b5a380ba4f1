"""Batches that are a function of seed and epoch, and a loader that goes on in the middle of an epoch."""

import random
from itertools import chain, zip_longest

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

import gradual.data.loader
from gradual.data.loader import EpochBatches, ResumableLoader, Share, is_borrowed

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]
SIZES, BATCH_SIZES, WORLD_SIZES = st.integers(0, 60), st.integers(1, 9), st.integers(1, 6)


def batches_of(size, batch_size, *, train=True, seed=0, epoch=0, rank=0, world_size=1, lengths=None):
    """The batches that one process of a (pretended) distributed run takes in an epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradual.data.loader, "rank_and_world_size", lambda: (rank, world_size))
        batches = EpochBatches(size, batch_size, seed, train=train, lengths=lengths)
        batches.set_epoch(epoch)
        taken = list(batches)
        assert len(batches) == len(taken)
    return taken


def of_all_ranks(size, batch_size, world_size, **arguments):
    return [batches_of(size, batch_size, rank=r, world_size=world_size, **arguments) for r in range(world_size)]


def own_batches_of(size, batch_size, rank, world_size):
    """Those of one process's evaluation batches that count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradual.data.loader, "rank_and_world_size", lambda: (rank, world_size))
        loader = ResumableLoader(range(size), EpochBatches(size, batch_size, 0, train=False))
        plain = DataLoader(Share(range(size), EpochBatches(size, batch_size, 0, train=False)), batch_size)
        assert [batch.tolist() for batch in plain] == [batch.tolist() for batch in loader]
        own = [batch.tolist() for index, batch in enumerate(loader) if not is_borrowed(loader, index)]
        assert own == [batch.tolist() for index, batch in enumerate(plain) if not is_borrowed(plain, index)]
    return own


def flat(batches):
    return list(chain.from_iterable(batches))


# One process


@given(SIZES, BATCH_SIZES, st.integers(0, 2**32), st.integers(0, 100), st.booleans())
def test_every_example_is_in_one_batch_of_an_epoch(size, batch_size, seed, epoch, train):
    batches = batches_of(size, batch_size, seed=seed, epoch=epoch, train=train)
    assert sorted(flat(batches)) == list(range(size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(0 < len(batch) <= batch_size for batch in batches[-1:])


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {}
    for seed in range(5):
        for epoch in range(5):
            torch.manual_seed(torch.seed())
            orders[seed, epoch] = tuple(flat(batches_of(40, 4, seed=seed, epoch=epoch)))
            assert tuple(flat(batches_of(40, 4, seed=seed, epoch=epoch))) == orders[seed, epoch]
    assert len(set(orders.values())) == 25


def test_the_order_does_not_depend_on_the_batch_size():
    assert flat(batches_of(40, 7, epoch=3)) == flat(batches_of(40, 4, epoch=3))


def test_an_epoch_can_be_repeated():
    batches = EpochBatches(40, 4, 0, train=True)
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    batches.set_epoch(0)
    assert first == list(batches) == list(batches)
    assert first != second


def test_evaluation_keeps_the_order_of_the_data():
    assert batches_of(7, 3, train=False, seed=5, epoch=9) == [[0, 1, 2], [3, 4, 5], [6]]


def test_over_many_epochs_each_example_comes_at_each_place():
    places = np.zeros((6, 6))
    for epoch in range(600):
        for place, index in enumerate(flat(batches_of(6, 2, epoch=epoch))):
            places[index, place] += 1
    assert abs(places - 100).max() < 5 * (600 * 1 / 6 * 5 / 6) ** 0.5, "more than five standard deviations off"


# Many processes


@given(SIZES, BATCH_SIZES, WORLD_SIZES, st.integers(0, 5), st.booleans())
def test_all_processes_have_equally_many_batches(size, batch_size, world_size, epoch, train):
    ranks = of_all_ranks(size, batch_size, world_size, epoch=epoch, train=train)
    alone = batches_of(size, batch_size, epoch=epoch, train=train)
    assert {len(taken) for taken in ranks} == {-(-len(alone) // world_size)}
    assert set(flat(flat(ranks))) == set(range(size))
    assert 0 <= len(flat(ranks)) - len(alone) < world_size, "no more is repeated than the last round needs"


@given(SIZES, BATCH_SIZES, WORLD_SIZES)
def test_in_an_evaluation_every_example_counts_once(size, batch_size, world_size):
    ranks = [own_batches_of(size, batch_size, rank, world_size) for rank in range(world_size)]
    in_turn = flat(zip_longest(*ranks, fillvalue=()))
    assert flat(in_turn) == list(range(size)), "in the order of the data, where batches are taken from each in turn"


@given(SIZES, BATCH_SIZES, WORLD_SIZES, st.integers(0, 5), st.booleans())
def test_a_step_of_all_processes_is_a_step_of_one_with_the_larger_batch(size, batch_size, world_size, epoch, train):
    ranks = of_all_ranks(size, batch_size, world_size, epoch=epoch, train=train)
    alone = batches_of(size, world_size * batch_size, epoch=epoch, train=train)
    assert {len(taken) for taken in ranks} == {len(alone)}
    for step, batch in enumerate(alone):
        together = flat(taken[step] for taken in ranks)
        assert together[: len(batch)] == batch
        if len(batch) == world_size * batch_size:
            assert together == batch


def test_fewer_examples_than_processes():
    assert [own_batches_of(2, 1, rank, 4) for rank in range(4)] == [[[0]], [[1]], [], []]
    assert of_all_ranks(2, 1, 4, train=False) == [[[0]], [[1]], [[0]], [[1]]]
    trained = of_all_ranks(2, 1, 5)
    assert [len(taken) for taken in trained] == [1] * 5
    assert sorted(flat(flat(trained))) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_the_process_group_is_asked_when_the_batches_are_taken(monkeypatch):
    batches = EpochBatches(8, 2, 0, train=False)
    assert len(batches) == 4
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    assert len(batches) == 2
    assert list(batches) == [[2, 3], [6, 7]]


# The loader


# Batches of a number of tokens

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60).map(np.array)


@given(LENGTHS, st.integers(1, 200), WORLD_SIZES, st.integers(0, 20), st.booleans())
@example(np.ones(4, dtype=int), 1, 3, 0, True)
def test_token_batches_hold_every_example_once(lengths, tokens, world_size, epoch, train):
    ranks = of_all_ranks(len(lengths), tokens, world_size, lengths=lengths, epoch=epoch, train=train)
    batches = [batch for rank in ranks for batch in rank]
    assert all(batches)
    assert {index for batch in batches for index in batch} == set(range(len(lengths)))
    if train and world_size <= len(lengths):
        assert sorted(flat(batches)) == list(range(len(lengths))), "none is filled up with another's examples"
    assert len({len(rank) for rank in ranks}) == 1


@given(LENGTHS, st.integers(1, 200), st.integers(0, 20))
def test_token_batches_are_as_few_as_their_tokens_allow_and_nearly_equal(lengths, tokens, epoch):
    batches = batches_of(len(lengths), tokens, lengths=lengths, epoch=epoch)
    total = int(lengths.sum())
    assert len(batches) == min(len(lengths), -(-total // tokens)), "the same number in every epoch"
    if total / len(batches) >= lengths.max():  # else one long example takes what several batches would hold
        assert all(lengths[batch].sum() < total / len(batches) + lengths.max() for batch in batches)


def test_token_batches_of_equal_examples_are_batches_of_examples():
    assert batches_of(20, 40, lengths=np.full(20, 10), epoch=3) == batches_of(20, 4, epoch=3)


def loader(num_workers=0, size=10, epoch=0):
    batches = EpochBatches(size, 2, 7, train=True)
    made = ResumableLoader(list(range(100, 100 + size)), batches, num_workers=num_workers)
    batches.set_epoch(epoch)
    return made


def numbers(batches):
    return [batch.tolist() for batch in batches]


def expected(epoch, size=10):
    return [[100 + index for index in batch] for batch in batches_of(size, 2, seed=7, epoch=epoch)]


def test_the_loader_delivers_the_examples_of_its_batches():
    made = loader()
    for epoch in (0, 1, 5):
        made.batch_sampler.set_epoch(epoch)
        assert numbers(made) == expected(epoch)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("delivered", [1, 3, 4])
def test_a_resumed_epoch_delivers_what_was_not_delivered(num_workers, delivered):
    first = loader(num_workers, epoch=2)
    iterator = iter(first)
    before = numbers(next(iterator) for _ in range(delivered))
    state = first.state_dict()
    del iterator

    resumed = loader(num_workers, epoch=2)
    resumed.load_state_dict(state)
    assert before + numbers(resumed) == expected(2)
    resumed.batch_sampler.set_epoch(3)
    assert numbers(resumed) == expected(3)


def test_a_resumed_epoch_can_be_interrupted_again():
    state, seen = loader(epoch=4).state_dict(), []
    for _ in range(5):
        resumed = loader(epoch=4)
        resumed.load_state_dict(state)
        seen += numbers([next(iter(resumed))])
        state = resumed.state_dict()
    assert seen == expected(4)


def test_the_state_of_a_finished_epoch_starts_the_next_from_its_beginning():
    finished = loader(epoch=0)
    assert numbers(finished) == expected(0)
    resumed = loader()
    resumed.load_state_dict(finished.state_dict())
    resumed.batch_sampler.set_epoch(1)
    assert numbers(resumed) == expected(1)


def test_the_state_of_a_fresh_loader_starts_from_the_beginning():
    resumed = loader()
    resumed.load_state_dict(loader().state_dict())
    assert numbers(resumed) == expected(0)


def test_a_loaded_state_is_saved_again_before_the_first_batch():
    first = loader()
    next(iter(first))
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    assert resumed.state_dict() == first.state_dict(), "a checkpoint may be written before the first batch"


def test_an_empty_loader_has_a_state_too():
    empty = loader(size=0)
    empty.load_state_dict(empty.state_dict())
    assert numbers(empty) == []


class Random:
    """A dataset whose examples are random numbers, as of an augmentation."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.rand(1).item()


def numbers_of_workers(seed=1, rank=0, epoch=0):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradual.data.loader, "rank_and_world_size", lambda: (rank, 2))
        made = ResumableLoader(Random(), EpochBatches(6, 1, seed, train=True), num_workers=1)
        made.batch_sampler.set_epoch(epoch)
        return tuple(float(batch) for batch in made)


def test_workers_have_random_numbers_of_the_seed_the_process_and_the_epoch():
    found = [numbers_of_workers(), numbers_of_workers(seed=2), numbers_of_workers(rank=1), numbers_of_workers(epoch=1)]
    assert len(set(found)) == 4
    assert found[0] == numbers_of_workers()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_iterating_leaves_the_global_random_state_alone(num_workers):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert len(numbers(loader(num_workers))) == 5
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


# Under Lightning


class Recorder(LightningModule):
    """Trains nothing worth having and writes down which batches it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_index):
        self.seen.append((self.current_epoch, batch.tolist()))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(folder, limit, checkpoint=None):
    model = Recorder()
    every_step = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    Trainer(
        accelerator="cpu", max_epochs=2, limit_train_batches=limit, callbacks=[every_step], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(model, loader(size=6), ckpt_path=checkpoint, weights_only=True)  # fmt: skip
    return model.seen


@pytest.mark.parametrize("limit", [1.0, 2], ids=["whole epochs", "limited epochs"])
def test_a_run_resumed_from_any_step_sees_the_batches_of_an_uninterrupted_one(tmp_path, limit):
    batches = 3 if limit == 1.0 else 2
    uninterrupted = trained(tmp_path / "first", limit)
    assert uninterrupted == [(epoch, batch) for epoch in (0, 1) for batch in expected(epoch, size=6)[:batches]]
    for step in range(1, 2 * batches):
        resumed = trained(tmp_path / "second", limit, tmp_path / "first" / f"step={step}.ckpt")
        assert resumed == uninterrupted[step:], step
