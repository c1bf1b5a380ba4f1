"""What a stage has logged is there again after an interruption."""

import pytest
import torch
from bare_fit import BATCHES, ScriptedModule, fit
from lightning.pytorch import Callback
from torchmetrics import SumMetric

from gradual.stage.resume.logged_values import LoggedValues


class PowerCut(Exception):
    pass


class Saves(Callback):
    """Saves a checkpoint after some training batch, or in the validation after it, and ends the run."""

    def __init__(self, path, step, in_validation=False):
        self.path, self.step, self.in_validation = path, step, in_validation

    def save(self, trainer):
        if not trainer.sanity_checking and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise PowerCut

    def on_train_batch_end(self, trainer, *args):
        if not self.in_validation:
            self.save(trainer)

    def on_validation_batch_end(self, trainer, *args):
        if self.in_validation:
            self.save(trainer)


class Logs(ScriptedModule):
    """Logs the number of the batch in all ways of averaging, and counts batches in a metric of its own."""

    def __init__(self):
        super().__init__((0.5, 0.25))
        self.count = SumMetric()

    def training_step(self, batch, batch_idx):
        self.log("train/mean", float(batch_idx), on_step=False, on_epoch=True, batch_size=1 + batch_idx)
        self.log("train/sum", float(batch_idx), on_step=False, on_epoch=True, reduce_fx="sum")
        self.log("train/largest", -float(batch_idx), on_step=False, on_epoch=True, reduce_fx="max")
        self.count.update(1)
        self.log("train/count", self.count, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


def scores(trainer):
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def interrupted(path, step, **where):
    with pytest.raises(PowerCut):
        fit(Logs(), LoggedValues(), Saves(path, step, **where))
    return path


EXPECTED = {
    "train/mean": sum(index * (1 + index) for index in range(BATCHES)) / sum(range(BATCHES + 1)),
    "train/sum": float(sum(range(BATCHES))),
    "train/largest": 0.0,
    "train/count": float(BATCHES),
    "val/score": 0.25,
}


@pytest.mark.parametrize("step", [1, BATCHES - 1, BATCHES + 2])
def test_averages_of_a_resumed_epoch_are_over_all_of_its_batches(tmp_path, step):
    saved = interrupted(tmp_path / "last.ckpt", step)
    _, trainer = fit(Logs(), LoggedValues(), resume=saved)
    assert scores(trainer) == pytest.approx(EXPECTED)


def test_without_it_lightning_reports_the_batches_after_the_interruption_alone(tmp_path):
    """If this fails, Lightning has learnt to, and the callback may go."""
    saved = interrupted(tmp_path / "last.ckpt", BATCHES + 2)
    content = torch.load(saved, weights_only=True)
    content["callbacks"].pop("LoggedValues")
    torch.save(content, saved)
    _, trainer = fit(Logs(), resume=saved)
    assert scores(trainer)["train/sum"] < EXPECTED["train/sum"]


class AtStart(Callback):
    """The scores when training starts."""

    def on_train_start(self, trainer, pl_module):
        self.scores = scores(trainer)


@pytest.mark.parametrize("in_validation", [False, True])
def test_the_last_score_is_known_before_the_next_validation(tmp_path, in_validation):
    step = 2 * BATCHES if in_validation else BATCHES + 1  # in the second epoch
    saved = interrupted(tmp_path / "last.ckpt", step, in_validation=in_validation)
    start = AtStart()
    fit(Logs(), LoggedValues(), start, resume=saved)
    assert start.scores["val/score"] == 0.5
    assert start.scores["train/sum"] == EXPECTED["train/sum"]
