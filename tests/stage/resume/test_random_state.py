"""Random numbers of a resumed stage are those that it would have drawn."""

import random

import numpy as np
import pytest
import torch
from identified_runs import Cut, Net, fit
from stand_in_trainer import stand_in_trainer
from torch import nn

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


class Late(Net):
    """Makes its last layer in one of Lightning's two hooks."""

    def __init__(self, where):
        super().__init__(dropout=0.5)
        self.head, self.where = None, where

    def setup(self, stage):
        self._make("setup")

    def configure_model(self):
        self._make("configure_model")

    def _make(self, where):
        if where == self.where and self.head is None:
            torch.manual_seed(1)
            self.head = nn.Linear(4, 1)


@pytest.mark.parametrize("where", ["setup", "configure_model"])
def test_a_later_stage_draws_the_same_numbers_in_a_new_process_that_makes_the_layers_first(tmp_path, where):
    _, whole = fit(tmp_path / "whole", Late(where))
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path / "cut", Late(where), callbacks=[Cut()])
    model, resumed = fit(tmp_path / "cut", Late(where))
    assert model.trained == ["0"]
    assert resumed.stages[-1].val == whole.stages[-1].val


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
