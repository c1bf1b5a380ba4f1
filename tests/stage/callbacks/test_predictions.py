"""The file of predictions."""

import json
from types import SimpleNamespace

import pytest
from stand_in_trainer import stand_in_trainer

from gradual.data.loader import EpochBatches
from gradual.stage.callbacks.predictions import PredictionWriter


def predict(path, batches, **changes):
    """A process's part of a prediction, up to its last batch; the callback and its Trainer."""
    callback, trainer = PredictionWriter(path), stand_in_trainer(**changes)
    callback.on_predict_start(trainer, None)
    for index, records in enumerate(batches):
        callback.write_on_batch_end(trainer, None, records, None, None, index, 0)
    return callback, trainer


def written(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_record_is_a_line_of_a_file_whose_folder_is_made(tmp_path, capsys):
    path = tmp_path / "new" / "predictions.jsonl"
    callback, trainer = predict(path, [[{"id": "a"}, {"id": "b"}], [], [{"id": "café"}]])
    assert not path.exists(), "before the end there is no half of a file"
    callback.on_predict_end(trainer, None)
    assert written(path) == [{"id": "a"}, {"id": "b"}, {"id": "café"}]
    assert "café" in path.read_text(encoding="utf-8"), "readable as it is"
    assert capsys.readouterr().out == f"Predictions: {path}\n"


def test_another_prediction_replaces_the_file(tmp_path):
    path = tmp_path / "predictions.jsonl"
    for name in ("before", "now"):
        callback, trainer = predict(path, [[{"id": name}]])
        callback.on_predict_end(trainer, None)
    assert written(path) == [{"id": "now"}]


@pytest.mark.parametrize("second", [[[1], [3]], [[1]]], ids=["as many batches", "one batch fewer"])
def test_batches_of_two_processes_alternate_in_one_file(tmp_path, second, capsys):
    path = tmp_path / "predictions.jsonl"
    first = predict(path, [[0], [2]], world_size=2)
    other = predict(path, second, world_size=2, global_rank=1, is_global_zero=False)
    for callback, trainer in (other, first):
        callback.on_predict_end(trainer, None)
    assert written(path) == [0, 1, 2, 3][: 2 + len(second)]
    assert [left.name for left in tmp_path.iterdir()] == ["predictions.jsonl"]
    assert capsys.readouterr().out.count("Predictions:") == 1


def test_a_batch_that_only_keeps_the_processes_in_step_is_left_out(tmp_path):
    path = tmp_path / "predictions.jsonl"
    loader = SimpleNamespace(batch_sampler=EpochBatches(1, 2, seed=0, train=False))
    callback, trainer = predict(path, [[0], [0]], predict_dataloaders=loader)
    callback.on_predict_end(trainer, None)
    assert written(path) == [0]
