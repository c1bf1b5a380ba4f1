"""A kill between the best checkpoint and the one to resume from: the epoch after the latter is trained again."""

import json

import pytest
import torch
from interrupted_runs import At, Net, fit, in_a_process


class Given(Net):
    """Its weights, and with them its scores, are a given number in each epoch."""

    def __init__(self, log, values):
        super().__init__(log)
        self._values = values
        self.register_buffer("number", torch.tensor(9.0))

    def on_validation_start(self):
        if not self.trainer.sanity_checking:
            self.number.fill_(self._values[self.current_epoch])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.number, batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self.number, batch_size=len(batch[0]))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a stage of three epochs with these scores, after others if need be; returns its result and best weights."""

    def run(values, *callbacks, **changes):
        monkeypatch.setattr("interrupted_runs.Net", lambda log: Given(log, values))
        monkeypatch.setattr("interrupted_runs.SCHEDULE", [0])
        return in_a_process(lambda: fit(tmp_path, *callbacks, max_epochs=3, **changes))

    def left():
        folder = tmp_path / "run/seed-3/0"
        result = json.loads((folder / "result.json").read_text())
        weights = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]["number"].item()
        return result["best_epoch"], result["val"]["loss"], result["test"]["loss"], weights

    return run, left


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        ([1.0, 2.0, 3.0], (2, 0.5, 0.5, 0.5)),
        ([1.0, 0.7, 0.6], (2, 0.5, 0.5, 0.5)),
        ([1.0, 0.7, 0.25], (3, 0.25, 0.25, 0.25)),
        ([1.0, 0.25, 2.0], (2, 0.25, 0.25, 0.25)),
    ],
)
def test_the_scores_of_the_best_weights_are_their_own_whatever_a_rerun_of_their_epoch_gives(run, again, expected):
    run, left = run
    assert run([1.0, 0.5], At("on_train_epoch_end", 2)) < 0, "after epoch 2 was validated, before it was saved"
    assert run(again) == 0
    assert left() == expected


def test_the_weights_of_a_lost_epoch_give_way_while_scores_are_smoothed_over_too_few(run):
    """The first mean of three is that of the third validation, whose weights are kept whatever it is."""
    run, left = run
    settings = {"smoothing": 3, "collapse": {"attempts": 0}}
    assert run([1.0, 0.25], At("on_train_epoch_end", 2), **settings) < 0
    assert run([1.0, 2.0, 3.0], **settings) == 0
    assert left() == (3, 3.0, 3.0, 3.0)


def test_a_run_of_an_earlier_version_whose_best_checkpoint_has_no_scores_goes_on(run, tmp_path):
    run, left = run
    assert run([1.0, 2.0], At("on_train_epoch_start", 2)) < 0
    best = tmp_path / "run/seed-3/0/best.ckpt"
    content = torch.load(best, weights_only=True)
    del content["gradual_best"]
    torch.save(content, best)
    assert run([9.0, 2.0, 3.0]) == 0
    assert left() == (1, 1.0, 1.0, 1.0)
