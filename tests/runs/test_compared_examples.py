"""Which examples can be compared with those of an earlier run, and what is said of the others."""

import functools
import logging
import random

import numpy as np
import pytest
import torch
from identified_runs import PARTS, data, fit, refusal
from linear_model import Examples

from gradual import MixedDomainDataModule
from gradual.runs.fingerprint import data_fingerprint


class Random(Examples):
    """Adds noise from somewhere to each example as it is read."""

    def __init__(self, source, *arguments):
        super().__init__(*arguments)
        self.noise = source

    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        return inputs + self.noise(), target


OWN = np.random.default_rng()
SHARED = {"torch": lambda: torch.rand(1), "numpy": lambda: np.random.rand(), "python": random.random}  # noqa: NPY002


def said_of_examples(caplog) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    return [line for line in said if line.startswith("Only the number and the ids of these examples")]


@pytest.mark.parametrize("source", SHARED)
def test_random_examples_are_compared_with_the_same_random_numbers(tmp_path, source, caplog):
    noisy = functools.partial(Random, SHARED[source])
    with caplog.at_level(logging.INFO):
        fit(tmp_path, data=data(in_domain=noisy(*PARTS["in_domain"])))
        assert not fit(tmp_path, data=data(in_domain=noisy(*PARTS["in_domain"])))[0].trained
    assert said_of_examples(caplog) == []
    assert refusal(tmp_path, data=data(in_domain=noisy("in", 12, 3.0, 1))) == "in_domain: different content"


def test_random_examples_are_not_compared_and_one_note_a_run_says_so(tmp_path, caplog):
    noisy = {name: Random(OWN.random, *PARTS[name]) for name in ("in_domain", "test")}
    with caplog.at_level(logging.INFO):
        fit(tmp_path, data=data(**noisy))
        (line,) = said_of_examples(caplog)
        assert line.endswith("in_domain (two readings of an example differ); test (two readings of an example differ).")
        model, _ = fit(tmp_path, data=data(**noisy))
    assert not model.trained
    assert not model.tested
    assert len(said_of_examples(caplog)) == 2
    shorter = Random(OWN.random, "in", 6, 2.0, 1)
    assert refusal(tmp_path, data=data(in_domain=shorter)) == "in_domain: 12 examples, now 6"


def test_examples_that_no_process_can_have_twice_are_named(caplog):
    class Opened(Examples):
        def __getitem__(self, index):
            return (number for number in [index])

    datamodule = data(val=Opened(*PARTS["val"]))
    with caplog.at_level(logging.INFO):
        assert data_fingerprint(datamodule)["val"]["content"] is None
    assert said_of_examples(caplog)[0].endswith("other runs: val (a generator).")


def test_looking_at_examples_disturbs_no_random_numbers(tmp_path):
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    parts = {name: Random(source, *part) for source, (name, part) in zip(SHARED.values(), PARTS.items())}
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    data_fingerprint(data(**parts))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2][1])  # noqa: NPY002


def test_mapped_examples_are_compared(tmp_path):
    def mapped(name, value):
        array = np.memmap(tmp_path / name, dtype=np.float32, mode="w+", shape=(10, 3))
        array[:] = np.arange(30).reshape(10, 3)
        array[4, 1] = value
        return MixedDomainDataModule(list(array), val=list(array))

    prints = [data_fingerprint(mapped(name, value)) for name, value in (("a", 1), ("b", 1), ("c", 2))]
    assert prints[0] == prints[1] != prints[2]
