"""What a stage in training says about itself, on a terminal and in a log."""

import io

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from rich.console import Console
from stand_in_trainer import stand_in_trainer

from gradual.stage.callbacks.progress import StageProgress


def progress(mode="min", is_ready=lambda: True, terminal=False, label="", steps=None, stopper=None):
    """The callback of the second of three stages, and what it writes."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    callback = StageProgress(label, 3, [20, 5], "val/score", mode, is_ready, console, steps, stopper)
    return callback, console.file


def validate(callback, epoch, score, **changes):
    metrics = {} if score is None else {"val/score": torch.tensor(score), "train/loss": torch.tensor(1.5)}
    trainer = stand_in_trainer(current_epoch=epoch - 1, callback_metrics=metrics, **changes)
    callback.on_validation_end(trainer, None)


def said(scores, **settings):
    callback, output = progress(**settings)
    callback.on_train_start(stand_in_trainer(), None)
    for epoch, score in enumerate(scores, start=1):
        validate(callback, epoch, score)
    return output.getvalue().splitlines()


def test_a_log_gets_a_line_an_epoch_with_stage_loss_score_and_time_left():
    first, second = said([0.5, 0.25])
    assert first.startswith("stage 2/3 (20 -> 5 out-of-domain): epoch 1/4, loss 1.5, val/score 0.5, best 0.5 (epoch 1)")
    assert "epoch 2/4" in second
    assert second.endswith("at most 0:00 left")


def test_patience_is_counted_from_the_first_validation_without_improvement():
    stopper = EarlyStopping("val/score", patience=3, check_on_train_epoch_end=False)
    callback, output = progress(stopper=stopper)
    callback.on_train_start(stand_in_trainer(), None)
    for waited in (0, 1, 2):
        stopper.wait_count = waited
        validate(callback, waited + 1, 0.5)
    first, second, third = output.getvalue().splitlines()
    assert "patience" not in first
    assert "best 0.5 (epoch 1), patience 1/3, at most" in second
    assert "patience 2/3" in third


def test_the_strategy_stands_before_the_stage():
    assert said([0.5], label="gradual: ")[0].startswith("gradual: stage 2/3 ")


@pytest.mark.parametrize(("mode", "best"), [("min", "0.25 (epoch 2)"), ("max", "0.75 (epoch 3)")])
def test_the_best_score_is_the_lowest_or_the_highest(mode, best):
    assert f"best {best}" in said([0.5, 0.25, 0.75, 0.6], mode=mode)[-1]


def test_a_score_that_does_not_decide_yet_is_not_the_best():
    assert "best" not in said([0.5], is_ready=lambda: False)[0]


def test_an_epoch_without_the_score_has_a_line_without_it():
    assert "val/score" not in said([None])[0]


@pytest.mark.parametrize("changes", [{"sanity_checking": True}, {"state": stand_in_trainer(fn="validate")}])
def test_validations_outside_of_an_epoch_print_nothing(changes):
    callback, output = progress()
    validate(callback, 1, 0.5, **changes)
    assert not output.getvalue()


def test_the_processes_after_the_first_are_silent():
    callback, output = progress()
    callback.disable()
    validate(callback, 1, 0.5)
    assert not output.getvalue()


def test_a_resumed_stage_knows_its_best_score():
    interrupted, _ = progress()
    validate(interrupted, 1, 0.25)
    resumed, output = progress()
    resumed.load_state_dict(interrupted.state_dict())
    validate(resumed, 2, 0.5)
    assert "best 0.25 (epoch 1)" in output.getvalue()


def test_a_terminal_shows_a_live_line_and_keeps_a_summary():
    callback, output = progress(terminal=True)
    callback.on_train_start(stand_in_trainer(), None)
    callback.on_train_batch_end(stand_in_trainer(), None, None, None, 0)
    validate(callback, 1, 0.5)
    callback.on_train_batch_end(stand_in_trainer(current_epoch=1), None, None, None, 1)
    callback.on_train_end(stand_in_trainer(current_epoch=2), None)
    shown = output.getvalue()
    assert "epoch 2/4, best 0.5 (epoch 1)" in shown
    assert shown.rstrip().endswith("stage 2/3 (20 -> 5 out-of-domain): 2 epochs, best val/score 0.5")


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def test_a_failure_leaves_the_terminal_with_its_cursor():
    callback, output = progress(terminal=True)
    callback.on_train_start(stand_in_trainer(), None)
    assert HIDE_CURSOR in output.getvalue()
    callback.on_exception(stand_in_trainer(), None, RuntimeError())
    assert output.getvalue().rindex(SHOW_CURSOR) > output.getvalue().rindex(HIDE_CURSOR)


@pytest.mark.parametrize(("elapsed", "left"), [(1, "0:03"), (100, "5:00"), (3600, "3:00:00")])
def test_the_time_left_is_that_of_the_epochs_to_come(monkeypatch, elapsed, left):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    callback, output = progress()
    callback.on_train_start(stand_in_trainer(), None)
    now[0] = float(elapsed)
    validate(callback, 1, 0.5)
    assert output.getvalue().rstrip().endswith(f"at most {left} left")


def test_a_stage_of_a_known_number_of_steps_shows_the_time_until_the_last(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    callback, output = progress(steps=50)
    callback.on_train_start(stand_in_trainer(global_step=10), None)
    now[0] = 60.0
    callback.on_validation_end(stand_in_trainer(global_step=20, max_epochs=400), None)
    assert "epoch 1, step 20/50" in output.getvalue()
    assert output.getvalue().rstrip().endswith("3:00 left")
