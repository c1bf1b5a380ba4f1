"""When the checkpoint to resume from is written, and what happens when a run is told to stop."""

import os
import signal

import pytest
import torch
from bare_fit import BATCHES, ScriptedModule, fit
from lightning.pytorch import Callback

from gradual.stage.interruption import interruptible
from gradual.stage.resume.last_checkpoint import LastCheckpoint


class Saved(Callback):
    """The steps at which a checkpoint is saved."""

    def __init__(self):
        self.steps = []

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.steps.append(trainer.global_step)


class Signal(Callback):
    """Sends this process a signal in some call of a hook."""

    def __init__(self, hook, count=1, number=signal.SIGTERM):
        self.calls = 0

        def call(trainer, *_, **__):
            self.calls += not trainer.sanity_checking
            if self.calls == count and not trainer.sanity_checking:
                os.kill(os.getpid(), number)

        setattr(self, hook, call)


def train(path, *callbacks, minutes=60.0, **arguments):
    with interruptible():
        _, trainer = fit(ScriptedModule(), *callbacks, LastCheckpoint(path, minutes), **arguments)
    return trainer


def steps_saved(path, minutes, **arguments):
    saved = Saved()
    train(path, saved, minutes=minutes, **arguments)
    return saved.steps


def test_it_is_saved_after_each_epoch(tmp_path):
    assert steps_saved(tmp_path / "last.ckpt", minutes=60) == [BATCHES, 2 * BATCHES]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_large_one_is_not_saved_after_every_short_epoch_but_after_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr("gradual.stage.resume.last_checkpoint._SMALL", 0)
    monkeypatch.setattr("gradual.stage.resume.last_checkpoint._PAUSE", 1e6)
    saved = Saved()
    train(tmp_path / "last.ckpt", saved, max_epochs=4)
    assert saved.steps == [BATCHES, 4 * BATCHES]


def test_a_large_one_is_saved_again_once_training_has_gone_on_for_long_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("gradual.stage.resume.last_checkpoint._SMALL", 0)
    monkeypatch.setattr("gradual.stage.resume.last_checkpoint._PAUSE", 0)
    assert steps_saved(tmp_path / "last.ckpt", minutes=60, max_epochs=3) == [BATCHES, 2 * BATCHES, 3 * BATCHES]


def test_the_last_epoch_is_saved_whatever_ends_the_stage(tmp_path, monkeypatch):
    monkeypatch.setattr("gradual.stage.resume.last_checkpoint._SMALL", 0)
    monkeypatch.setattr("gradual.stage.resume.last_checkpoint._PAUSE", 1e6)

    class Enough(Callback):
        def on_validation_end(self, trainer, pl_module):
            trainer.should_stop = trainer.global_step >= 3 * BATCHES

    saved = Saved()
    train(tmp_path / "last.ckpt", Enough(), saved, max_epochs=9)
    assert saved.steps == [BATCHES, 3 * BATCHES]
    assert steps_saved(tmp_path / "again.ckpt", minutes=60, max_epochs=9, max_steps=2 * BATCHES)[-1] == 2 * BATCHES


def test_when_due_it_is_saved_between_any_two_steps_but_before_a_validation(tmp_path):
    every = [step for epoch in range(2) for step in range(epoch * BATCHES + 1, (epoch + 1) * BATCHES + 1)]
    assert steps_saved(tmp_path / "last.ckpt", minutes=0) == every
    with_validation_inside = steps_saved(tmp_path / "last.ckpt", minutes=0, max_epochs=1, val_check_interval=2)
    assert 2 not in with_validation_inside


def test_it_is_not_saved_while_gradients_are_accumulated(tmp_path):
    saved = steps_saved(tmp_path / "last.ckpt", minutes=0, max_epochs=1, accumulate_grad_batches=2)
    assert saved == [1, 2]


class Accumulating(ScriptedModule):
    """Optimizes by itself: a step every few batches."""

    def __init__(self, batches):
        super().__init__()
        self.automatic_optimization, self.batches = False, batches

    def training_step(self, batch, batch_idx):
        self.manual_backward(super().training_step(batch, batch_idx) / self.batches)
        if (batch_idx + 1) % self.batches == 0:
            self.optimizers().step()
            self.optimizers().zero_grad()


def test_it_is_not_saved_while_the_module_accumulates_gradients_itself(tmp_path):
    for batches, expected in ((1, [1, 2, 3, 4]), (2, [1, 2]), (3, [1, 1])):  # the last one at the end of the epoch
        saved = Saved()
        fit(Accumulating(batches), saved, LastCheckpoint(tmp_path / "last.ckpt", 0), max_epochs=1)
        assert saved.steps == expected


def told_to_stop(path, hook, count, number=signal.SIGTERM, **arguments):
    """The exit of a run that gets a signal, and the step that its checkpoint is of."""
    with pytest.raises((SystemExit, KeyboardInterrupt)) as stopped:
        train(path, Signal(hook, count, number), **arguments)
    return stopped.value, torch.load(path, weights_only=True)["global_step"]


def test_told_to_stop_it_is_saved_after_the_step_in_progress(tmp_path):
    stop, step = told_to_stop(tmp_path / "last.ckpt", "on_train_batch_start", 2)
    assert (stop.code, step) == (143, 2)


def test_ctrl_c_ends_in_the_same_way(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    try:
        stop, step = told_to_stop(tmp_path / "last.ckpt", "on_train_batch_start", 2, signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(stop, KeyboardInterrupt)
    assert step == 2


def test_told_to_stop_in_a_validation_it_is_saved_as_before_it_and_the_validation_is_done_again(tmp_path):
    path = tmp_path / "last.ckpt"
    stop, step = told_to_stop(path, "on_validation_batch_start", 2)
    assert (stop.code, step) == (143, BATCHES)
    validated = Signal("on_validation_batch_start", count=0)
    assert train(path, validated, resume=path).global_step == 2 * BATCHES
    assert validated.calls == 2 * BATCHES, "both epochs' validations, each from its first batch"


def test_told_to_stop_between_gradients_that_are_accumulated_it_waits_for_the_step(tmp_path):
    stop, step = told_to_stop(tmp_path / "last.ckpt", "on_train_batch_start", 1, accumulate_grad_batches=2)
    assert (stop.code, step) == (143, 1)


def test_told_to_stop_in_a_validation_between_them_it_finishes_that_first(tmp_path):
    settings = {"accumulate_grad_batches": 2, "val_check_interval": 3}
    stop, step = told_to_stop(tmp_path / "last.ckpt", "on_validation_batch_start", 2, **settings)
    assert (stop.code, step) == (143, 2), "after the last batch of the epoch"


def test_after_training_a_signal_stops_at_once(tmp_path):
    reached = []

    def train_and_get_a_signal():
        with interruptible():
            fit(ScriptedModule(), LastCheckpoint(tmp_path / "last.ckpt", 60))
            reached.append("the end of training")
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("more")

    with pytest.raises(SystemExit) as stopped:
        train_and_get_a_signal()
    assert (stopped.value.code, reached) == (143, ["the end of training"])
