"""The checkpoint of the best epoch, and the scores that go with it."""

import pytest
import torch
from bare_fit import ScriptedModule, fit
from lightning.pytorch import Callback

from gradual.stage.callbacks.best_checkpoint import BestCheckpoint

SCORES = (0.5, 0.25, 0.75, 0.5)


class EpochInWeights(Callback):
    """Makes the bias the number of the epoch, so that a checkpoint says which epoch's weights it has."""

    def on_validation_start(self, trainer, pl_module):
        torch.nn.init.constant_(pl_module.layer.bias, trainer.current_epoch + 1)


def train(folder, mode="min", is_ready=lambda: True, scores=SCORES):
    best = BestCheckpoint(folder, "val/score", mode, is_ready)
    fit(ScriptedModule(scores), EpochInWeights(), best, max_epochs=len(scores), num_sanity_val_steps=0)
    return best, torch.load(folder / "best.ckpt", weights_only=True)


@pytest.mark.parametrize(("mode", "epoch"), [("min", 2), ("max", 3)])
def test_the_best_epoch_s_weights_and_scores_are_kept(tmp_path, mode, epoch):
    best, saved = train(tmp_path, mode)
    assert (best.epoch, best.scores) == (epoch, {"val/score": SCORES[epoch - 1]})
    assert float(saved["state_dict"]["layer.bias"]) == epoch
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
    assert "optimizer_states" not in saved, "weights only"


def test_of_equal_scores_the_first_is_the_best(tmp_path):
    best, saved = train(tmp_path, scores=(0.5, 0.25, 0.25))
    assert best.epoch == saved["state_dict"]["layer.bias"] == 2


def test_until_the_score_decides_the_last_epoch_stands_in_for_the_best(tmp_path):
    best, saved = train(tmp_path / "never", is_ready=lambda: False)
    assert best.epoch == saved["state_dict"]["layer.bias"] == 4
    decisions = iter([False, False, True, True])  # of 0.75, the first that counts, and 0.5
    best, saved = train(tmp_path / "later", is_ready=lambda: next(decisions))
    assert best.epoch == saved["state_dict"]["layer.bias"] == 4


def test_a_resumed_stage_knows_its_best_epoch(tmp_path):
    best, _ = train(tmp_path)
    resumed = BestCheckpoint(tmp_path, "val/score", "min", lambda: True)
    resumed.load_state_dict(best.state_dict())
    assert (resumed.epoch, resumed.scores) == (best.epoch, best.scores)
    assert float(resumed.best_model_score) == 0.25
