"""Averaged weights and smoothed selection, against naive computations from recorded weights and scores."""

from pathlib import Path

import linear_model
import pytest
import torch
from lightning.pytorch import Callback
from recorded_runs import path_results
from slow_cases import fast_one_in

import gradual
from gradual import InputError

DECAY = 0.8


class Recorder(Callback):
    """Writes down the weights after every step, and those that are validated."""

    steps: list[torch.Tensor] = []
    validated: list[torch.Tensor] = []

    def on_train_start(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            Recorder.steps, Recorder.validated = [pl_module.layer.weight.detach().clone()], []

    def on_train_batch_end(self, trainer, pl_module, *args):
        Recorder.steps.append(pl_module.layer.weight.detach().clone())

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, *args):
        if batch_idx == 0 and not trainer.sanity_checking:
            Recorder.validated.append(pl_module.layer.weight.detach().clone())


def fit(root: Path, model=None, callbacks=(), schedule=(0,), **arguments):
    torch.manual_seed(0)
    model = model or linear_model.LinearModel(root / "trained.txt")
    data = linear_model.make_data({"batch_size": 2})
    trainer = linear_model.trainer_arguments() | {"max_epochs": 3}
    settings = trainer | {"optimizer": {"lr": 0.05}} | arguments
    return model, gradual.fit(model, data, schedule, root / "run", callbacks=list(callbacks), **settings)


def best_weight(root: Path, path: str = "seed-0/0") -> torch.Tensor:
    return torch.load(root / "run" / path / "best.ckpt", weights_only=True)["state_dict"]["layer.weight"]


def test_the_average_is_what_is_validated_kept_and_carried_forward(tmp_path):
    fit(tmp_path, callbacks=[Recorder()], weight_averaging=DECAY)
    average, epochs = Recorder.steps[0], []
    for step, weight in enumerate(Recorder.steps[1:], start=1):
        average = DECAY * average + (1 - DECAY) * weight
        if step % 4 == 0:  # 8 examples in batches of 2
            epochs.append(average)
    assert len(Recorder.validated) == len(epochs) == 3
    for validated, expected in zip(Recorder.validated, epochs):
        torch.testing.assert_close(validated, expected)
    result = path_results(tmp_path / "run")["stages"][0]
    torch.testing.assert_close(best_weight(tmp_path), epochs[result["best_epoch"] - 1])


def test_training_goes_on_with_the_weights_themselves(tmp_path):
    fit(tmp_path / "a", callbacks=[Recorder()], weight_averaging=DECAY)
    averaged = Recorder.steps
    fit(tmp_path / "b", callbacks=[Recorder()])
    assert len(averaged) == 13
    for left, right in zip(averaged, Recorder.steps, strict=True):
        assert torch.equal(left, right)


class Cut(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise RuntimeError("cut")


@pytest.mark.parametrize("arguments", fast_one_in(2, [{"weight_averaging": DECAY}, {"smoothing": 2}]))
def test_an_interrupted_stage_resumes_to_the_same_result(tmp_path, arguments):
    _, whole = fit(tmp_path / "whole", **arguments)
    with pytest.raises(RuntimeError, match="cut"):
        fit(tmp_path / "cut", callbacks=[Cut()], **arguments)
    _, result = fit(tmp_path / "cut", **arguments)
    assert torch.equal(best_weight(tmp_path / "cut"), best_weight(tmp_path / "whole"))
    assert result.final == whole.final


class Scripted(linear_model.LinearModel):
    losses = [5.0, 1.0, 9.0, 3.0, 2.0, 2.5, 9.0, 9.0, 9.0, 9.0]

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.losses[self.trainer.current_epoch], batch_size=1)


def test_the_best_epoch_is_that_of_the_lowest_mean(tmp_path):
    model = Scripted(tmp_path / "trained.txt")
    _, result = fit(tmp_path, model, smoothing=3, patience=4, max_epochs=10)
    best = min(range(2, 10), key=lambda e: sum(Scripted.losses[e - 2 : e + 1]) / 3)
    assert best == 5  # mean of 3.0, 2.0 and 2.5; the lowest single value came earlier
    stage = result.stages[0]
    assert (stage.best_epoch, stage.epochs) == (best + 1, best + 5)
    assert stage.val["loss"] == Scripted.losses[best]


class Lucky(Scripted):
    losses = [1.0, 2.0, 3.0, 3.1, 2.9, 3.0, 3.2, 3.3, 3.4, 3.5]


def test_the_best_mean_is_over_a_whole_window(tmp_path, capsys):
    _, result = fit(tmp_path, Lucky(tmp_path / "trained.txt"), smoothing=3, patience=2, max_epochs=10)
    stage = result.stages[0]
    # the third mean is the first of three; those of the fourth and fifth epoch are above it
    assert (stage.best_epoch, stage.epochs, stage.val["loss"]) == (3, 5, 3.0)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_stage_that_ends_before_the_first_mean_keeps_its_last_epoch(tmp_path, epochs):
    _, result = fit(tmp_path, Lucky(tmp_path / "trained.txt"), smoothing=3, patience=1, max_epochs=epochs)
    assert (result.stages[0].best_epoch, result.stages[0].epochs) == (epochs, epochs)
    assert result.stages[0].val["loss"] == Lucky.losses[epochs - 1]


def test_without_smoothing_it_is_that_of_the_lowest_value(tmp_path):
    _, result = fit(tmp_path, Scripted(tmp_path / "trained.txt"), patience=9, max_epochs=10)
    assert result.stages[0].best_epoch == 2


def test_a_stage_s_average_begins_anew(tmp_path):
    fit(tmp_path, callbacks=[Recorder()], schedule=[5, 0], weight_averaging=DECAY)
    torch.testing.assert_close(Recorder.steps[0], best_weight(tmp_path, "seed-0/5"))


@pytest.mark.parametrize("arguments", [{"weight_averaging": 1.0}, {"weight_averaging": -0.1}, {"smoothing": 0}])
def test_impossible_settings_are_refused(tmp_path, arguments):
    with pytest.raises(InputError, match=f"{next(iter(arguments))} is"):
        fit(tmp_path, **arguments)


def test_with_accumulated_gradients_the_average_counts_steps_of_the_optimizer(tmp_path):
    fit(tmp_path, callbacks=[Recorder()], weight_averaging=DECAY, accumulate_grad_batches=2, max_epochs=1)
    average = Recorder.steps[0]
    for weight in Recorder.steps[2::2]:  # four batches, two steps
        average = DECAY * average + (1 - DECAY) * weight
    (validated,) = Recorder.validated
    torch.testing.assert_close(validated, average)
