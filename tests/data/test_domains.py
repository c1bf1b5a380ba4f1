"""The ids of examples, and training examples that are left out since evaluation data has them."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mixed_data import IN_DOMAIN, POOL, Named, mixed, module
from slow_cases import fast_one_in

from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError


def test_the_ids_of_a_sample_are_those_of_its_examples():
    plain, named = module(), module(pool=Named([f"dialogue-{n}" for n in range(50)], POOL))
    told = module(id_of=lambda example: f"number {example}")
    sample = plain.sample().tolist()
    assert plain.sample_ids() == [str(index) for index in sample]
    assert named.sample_ids() == [f"dialogue-{index}" for index in sample]
    assert told.sample_ids() == [f"number {POOL[index]}" for index in sample]
    told.set_stage(3)
    assert told.sample_ids() == []


def shuffled(ids):
    """A Series whose index is no longer the positions, as after ``frame.sample(frac=1)``."""
    return pd.Series(ids, index=np.arange(len(ids))[::-1] + 3, dtype=object)


def chunked(ids):
    return pa.chunked_array([ids[:2], ids[2:]], pa.int64())


KINDS = [list, np.array, shuffled, pa.array, pd.Index, torch.tensor, chunked]


@given(st.lists(st.integers(0, 40), max_size=30), st.sets(st.integers(0, 40), min_size=1), st.integers(0, 9))
@pytest.mark.parametrize("kind", fast_one_in(2, KINDS))
def test_the_rest_of_a_pool_is_that_of_a_naive_pass(kind, ids, held_out, seed):
    pool, val = Named([], range(len(ids))), Named([], sorted(held_out))
    pool.ids, val.ids = kind(ids), kind(sorted(held_out))
    data = module([7], pool, val, schedule=[1.0], seed=seed)
    left = [position for position, id_ in enumerate(ids) if id_ not in held_out]
    assert sorted(data.sample()) == left
    assert data.pool_size == len(left)
    assert data.sample_ids() == [str(ids[index]) for index in data.sample()]


@pytest.mark.parametrize("kind", [list, np.array, shuffled, pa.array, torch.tensor])
def test_tokens_are_those_of_the_examples_in_any_kind_of_column(kind):
    pool = Named([], range(9))
    pool.ids, pool.lengths = kind(list(range(9))), kind([1, 2, 3, 4, 5, 6, 7, 8, 9])
    data = module([9], pool, schedule=[20], amount_in="tokens")
    drawn = data.sample().tolist()
    assert drawn == [int(id_) for id_ in data.sample_ids()]
    assert data.sample_tokens() == sum(position + 1 for position in drawn) <= 20
    sources = {"a": pool, "b": pool}
    data = module([9], sources, schedule=[20], amount_in="tokens")
    assert data.sample_tokens() == sum(position % 9 + 1 for position in data.sample().tolist()) <= 20


@pytest.mark.parametrize("kind", [list, pd.Index])
def test_a_number_and_its_text_are_the_same_id(kind):
    pool, val = Named([], range(4)), Named([], [0])
    for pool.ids, val.ids in ((kind([1, 2, 3, 4]), ["3"]), (kind(["1", "2", "3", "4"]), [3])):
        assert sorted(module([7], pool, val, schedule=[1.0]).sample()) == [0, 1, 3]
    data = module([7], range(4), [2], schedule=[1.0], id_of=torch.tensor)
    assert sorted(data.sample()) == [0, 1, 3]


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
