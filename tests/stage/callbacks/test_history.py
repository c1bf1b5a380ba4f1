"""The epochs and the test examples' scores that a stage writes down."""

import json
from types import SimpleNamespace

import pytest
import torch
from stand_in_trainer import stand_in_trainer

from gradual.data.loader import EpochBatches
from gradual.stage.callbacks import history
from gradual.stage.callbacks.history import EpochHistory, ExampleScores


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def train_epoch(callback, number, **metrics):
    """One epoch as Lightning goes through it."""
    groups = [{"name": "encoder", "lr": 0.1 / number}, {"lr": 0.2}]
    trainer = stand_in_trainer(
        current_epoch=number - 1,
        optimizers=[SimpleNamespace(param_groups=groups)],
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
    )
    callback.on_train_epoch_start(trainer, None)
    callback.on_train_epoch_end(trainer, None)


def test_each_epoch_is_a_line_with_its_learning_rates_and_scores(tmp_path):
    callback = EpochHistory(tmp_path / "history.jsonl")
    callback.on_train_start(stand_in_trainer(), None)
    train_epoch(callback, 1, val_loss=0.5, train_loss=2.0)
    train_epoch(callback, 2, val_loss=0.25, train_loss=1.0)
    first, second = rows(callback.path)
    assert first.pop("seconds") >= 0
    assert first == {"epoch": 1, "lr": {"encoder": 0.1, "1": 0.2}, "train_loss": 2.0, "val_loss": 0.5}
    assert (second["epoch"], second["lr"]["encoder"], second["val_loss"]) == (2, 0.05, 0.25)
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_a_resumed_stage_repeats_no_line_and_adds_up_the_seconds_of_its_epoch(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    interrupted = EpochHistory(tmp_path / "history.jsonl")
    interrupted.on_train_start(stand_in_trainer(), None)
    train_epoch(interrupted, 1)
    interrupted.on_train_epoch_start(stand_in_trainer(current_epoch=1), None)
    now[0] = 3.0
    saved = interrupted.state_dict()
    now[0] = 60.0
    resumed = EpochHistory(interrupted.path)
    resumed.load_state_dict(saved)
    resumed.on_train_start(stand_in_trainer(current_epoch=1), None)
    now[0] = 64.0
    resumed.on_train_epoch_end(stand_in_trainer(current_epoch=1), None)
    assert [row["epoch"] for row in rows(resumed.path)] == [1, 2]
    assert rows(resumed.path)[1]["seconds"] == 7.0


def test_lines_that_were_lost_are_written_again_where_nothing_is_left_to_train(tmp_path):
    interrupted = EpochHistory(tmp_path / "history.jsonl")
    train_epoch(interrupted, 1, val_loss=0.5)
    saved = interrupted.state_dict()
    interrupted.path.unlink()
    resumed = EpochHistory(interrupted.path)
    resumed.load_state_dict(saved)
    resumed.on_fit_end(stand_in_trainer(), None)
    assert rows(resumed.path)[0]["val_loss"] == 0.5


def test_only_the_first_process_writes_the_epochs(tmp_path):
    callback = EpochHistory(tmp_path / "history.jsonl")
    callback.on_fit_end(stand_in_trainer(is_global_zero=False), None)
    assert not callback.path.exists()


def run_test(callback, batches, **changes):
    """A test whose steps return ``batches``."""
    trainer = stand_in_trainer(**changes)
    callback.on_test_start(trainer, None)
    for index, outputs in enumerate(batches):
        callback.on_test_batch_end(trainer, None, outputs, None, index)
    callback.on_test_end(trainer, None)


def record(name):
    return {"id": name, "accuracy": [1, 2]}


def test_the_records_of_all_test_batches_are_written_in_their_order(tmp_path):
    callback = ExampleScores(tmp_path / "test_examples.jsonl")
    for _ in range(2):  # a second test replaces the first
        run_test(callback, [[record("a"), record("b")], [record("c")]])
    assert rows(callback.path) == [record("a"), record("b"), record("c")]


def test_a_test_step_that_returns_no_records_writes_no_file(tmp_path):
    callback = ExampleScores(tmp_path / "test_examples.jsonl")
    run_test(callback, [None, torch.tensor(1.0)])
    assert not callback.path.exists()


@pytest.mark.parametrize("other", [[[record("b")], [record("d")]], [[record("b")]]], ids=["as many", "one fewer"])
def test_batches_of_two_processes_alternate(tmp_path, monkeypatch, other):
    monkeypatch.setattr(history, "of_all_processes", lambda mine: [mine, other])
    callback = ExampleScores(tmp_path / "test_examples.jsonl")
    run_test(callback, [[record("a")], [record("c")]])
    assert [row["id"] for row in rows(callback.path)] == ["a", "b", "c", "d"][: 2 + len(other)]


def test_a_batch_that_only_keeps_the_processes_in_step_is_left_out(tmp_path):
    loader = SimpleNamespace(batch_sampler=EpochBatches(3, 2, seed=0, train=False))
    callback = ExampleScores(tmp_path / "test_examples.jsonl")
    run_test(callback, [[record("a")], [record("b")], [record("a")]], test_dataloaders=loader)
    assert [row["id"] for row in rows(callback.path)] == ["a", "b"]
