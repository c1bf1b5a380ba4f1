"""The mean of the last validation scores."""

import pytest
import torch
from stand_in_trainer import stand_in_trainer

from gradual.stage.callbacks.smoothing import SmoothedScore


def validate(callback, value, **changes):
    metrics = {} if value is None else {"val/loss": torch.tensor(value)}
    callback.on_validation_end(stand_in_trainer(callback_metrics=metrics, **changes), None)
    return {name: float(score) for name, score in metrics.items() if name != "val/loss"}


def test_the_mean_of_the_last_scores_is_a_score_of_its_own():
    smoothed = SmoothedScore("val/loss", window=3)
    means = [validate(smoothed, value)["val/loss_mean_of_3"] for value in (4.0, 2.0, 3.0, 7.0)]
    assert means == [4.0, 3.0, 3.0, 4.0]


def test_the_mean_decides_once_its_window_is_full():
    smoothed = SmoothedScore("val/loss", window=2)
    assert not smoothed.is_ready()
    validate(smoothed, 1.0)
    assert not smoothed.is_ready()
    validate(smoothed, 1.0)
    assert smoothed.is_ready()


@pytest.mark.parametrize(("value", "changes"), [(None, {}), (1.0, {"sanity_checking": True})])
def test_a_validation_that_does_not_count_adds_nothing(value, changes):
    smoothed = SmoothedScore("val/loss", window=1)
    assert validate(smoothed, value, **changes) == {}
    assert not smoothed.is_ready()


def test_a_resumed_stage_goes_on_with_the_scores_before():
    interrupted = SmoothedScore("val/loss", window=2)
    validate(interrupted, 4.0)
    resumed = SmoothedScore("val/loss", window=2)
    resumed.load_state_dict(interrupted.state_dict())
    assert validate(resumed, 2.0) == {"val/loss_mean_of_2": 3.0}
