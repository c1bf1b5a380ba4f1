"""Random numbers of a resumed stage are those that it would have drawn."""

import random

import numpy as np
import pytest
import torch
from stand_in_trainer import stand_in_trainer

from gradual import InputError
from gradual.stage.resume import random_state
from gradual.stage.resume.random_state import RandomState


def draw():
    """A number from each of the global generators."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002 - the global one is meant


def resumed(saved, **changes):
    callback = RandomState()
    callback.load_state_dict(saved)
    callback.on_train_start(stand_in_trainer(**changes), None)
    return draw()


def test_all_generators_go_on_where_the_checkpoint_was_made():
    saved = RandomState().state_dict()
    expected = draw()
    draw()
    assert resumed(saved) == expected


def test_a_checkpoint_inside_a_validation_has_the_states_before_it():
    callback = RandomState()
    before = callback.state_dict()
    callback.on_validation_start(stand_in_trainer(), None)
    draw()
    saved = callback.state_dict()
    callback.on_validation_end(stand_in_trainer(), None)
    assert resumed(saved) == resumed(before)
    assert resumed(callback.state_dict()) != resumed(before)


def test_states_are_restored_once():
    callback = RandomState()
    callback.load_state_dict(callback.state_dict())
    callback.on_train_start(stand_in_trainer(), None)
    first = draw()
    callback.on_train_start(stand_in_trainer(), None)
    assert draw() != first


def test_each_process_starts_with_numbers_of_its_own_and_the_first_with_those_of_the_seed():
    drawn = []
    for rank in range(3):
        torch.manual_seed(7)
        RandomState().on_train_start(stand_in_trainer(global_rank=rank), None)
        drawn.append(float(torch.rand(())))
    assert len(set(drawn)) == 3
    torch.manual_seed(7)
    assert drawn[0] == float(torch.rand(()))


@pytest.mark.parametrize("now", [1, 3])
def test_another_number_of_processes_cannot_go_on(monkeypatch, now):
    saved = {"processes": RandomState().state_dict()["processes"] * 2}
    monkeypatch.setattr(random_state, "rank_and_world_size", lambda: (0, now))
    with pytest.raises(InputError, match=f"started with 2 processes and cannot be resumed with {now}"):
        RandomState().load_state_dict(saved)


def test_states_are_read_back_without_running_code(tmp_path):
    torch.save(RandomState().state_dict(), tmp_path / "state.pt")
    expected = draw()
    assert resumed(torch.load(tmp_path / "state.pt", weights_only=True)) == expected
