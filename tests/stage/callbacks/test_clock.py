"""The training time of a stage."""

import time

import pytest
from stand_in_trainer import stand_in_trainer

from gradual.stage.callbacks.clock import TrainingClock


@pytest.fixture
def pass_time(monkeypatch):
    """Moves the time on by some seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def moved_on(seconds):
        now[0] += seconds

    return moved_on


def test_time_counts_from_the_start_of_training_to_its_end(pass_time):
    clock = TrainingClock()
    pass_time(5)
    assert clock.seconds == 0
    clock.on_train_start(stand_in_trainer(), None)
    pass_time(3)
    assert clock.seconds == 3
    clock.on_train_end(stand_in_trainer(), None)
    pass_time(7)
    assert clock.seconds == 3


def test_time_between_a_checkpoint_and_the_resumed_run_does_not_count(pass_time):
    interrupted = TrainingClock()
    interrupted.on_train_start(stand_in_trainer(), None)
    pass_time(3)
    saved = interrupted.state_dict()
    pass_time(60)
    resumed = TrainingClock()
    resumed.load_state_dict(saved)
    assert resumed.seconds == 3
    resumed.on_train_start(stand_in_trainer(), None)
    pass_time(2)
    assert resumed.seconds == 5
    resumed.on_train_end(stand_in_trainer(), None)
    assert resumed.state_dict() == {"seconds": 5}
