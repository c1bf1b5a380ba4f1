"""Runs of text classifiers: what is learned, kept in checkpoints, and the same after a kill and on two processes."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from classification_files import WORDS, configured, data, fit, rows
from interrupted_runs import At, in_a_process, outcome
from lightning.pytorch.strategies import ModelParallelStrategy
from quiet_trainer import quiet_trainer
from slow_cases import fast_one_in
from tiny_models import write_model
from transformers import AutoModelForSequenceClassification
from two_processes import in_two_processes

from gradual.errors import InputError
from gradual.settings import OptimizerConfig
from gradual.stage.optim import parameter_groups
from gradual.tasks import TextClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize(
    ("kind", "target"),
    fast_one_in(4, [("roberta", "labels"), ("bert", "label"), ("modernbert", "label"), ("bert", "number")]),
)
def test_a_small_model_learns_it_all(tmp_path, encoders, kind, target):
    """What is trained on is learned, test records add up to the test scores, and a checkpoint predicts the same."""
    datamodule = data(tmp_path, encoders[kind], target, pool=rows("pool", 20, target))
    result = fit(tmp_path, datamodule, encoders[kind], (10, 0), check_val_every_n_epoch=5)
    test = result.stages[-1].test
    folder = tmp_path / "run/seed-0/10/0"
    records = [json.loads(line) for line in (folder / "test_examples.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"test{number}" for number in range(9)]
    for name in {*records[0]} - {"id"}:
        numerators, denominators = zip(*(record[name] for record in records))
        assert sum(numerators) / sum(denominators) == pytest.approx(test[name], abs=1e-5)
    if target == "number":
        assert test["mse"] < 0.05
        assert test["pearson"] > 0.95
    else:
        assert test["accuracy"] == test["macro_f1"] == test["micro_f1"] == 1
    loaded = TextClassifier.load_from_checkpoint(folder / "best.ckpt").eval()
    trainer = quiet_trainer()
    predicted = [record for batch in trainer.predict(loaded, datamodule=datamodule) for record in batch]
    expected = rows("test", 9, target)
    assert [record["id"] for record in predicted] == [example["id"] for example in expected]
    for record, example in zip(predicted, expected, strict=True):
        if target == "number":
            assert record == {"id": example["id"], "score": pytest.approx(example["label"], abs=0.5)}
        else:
            assert record["label"] == example["label"]
            scores = record["score"] if target == "labels" else [record["score"]]
            assert all(0.5 <= score <= 1 for score in scores)
            assert len(scores) == (len(record["label"]) if target == "labels" else 1)


def test_a_checkpoint_needs_neither_data_nor_the_pretrained_folder(tmp_path, encoders):
    own = write_model(tmp_path / "gone", "bert", WORDS)
    datamodule = data(tmp_path, own)
    fit(tmp_path, datamodule, own, max_epochs=1, patience=1)
    trained = configured(datamodule, own)
    (tmp_path / "gone").rename(tmp_path / "away")
    loaded = TextClassifier.load_from_checkpoint(tmp_path / "run/seed-0/0/best.ckpt")
    assert loaded.spec == trained.spec
    assert loaded.model.config.id2label == {0: "neg", 1: "pos"}
    loaded.save_pretrained(tmp_path / "out")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])
    other = data(tmp_path / "other", encoders["bert"], labels=("pos", "neg", "other"))
    with pytest.raises(InputError, match="only the data has the labels other"):
        other.configure(loaded)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["label", "number"])
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tmp_path, encoders, target):
    def train(root, *callbacks):
        datamodule = data(root, encoders["dropout"], target, pool=rows("pool", 20, target))
        fit(root, datamodule, encoders["dropout"], (8, 0), callbacks, max_epochs=2, checkpoint_every=1)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_a_process(lambda: train(whole)) == 0
    for count in (3, 4):  # in the middle of an epoch of the first stage, and in the second
        assert in_a_process(lambda count=count: train(killed, At("on_train_batch_end", count))) == -9
    assert in_a_process(lambda: train(killed)) == 0
    found, expected = outcome(killed), outcome(whole)
    assert found == expected


def divided():
    """The strategy that divides weights among processes (FSDP2)."""
    return ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "strategy"), [("bert", lambda: "ddp"), ("modernbert", divided)])
def test_two_processes_train_and_score_as_one(tmp_path, encoders, kind, strategy):
    def train(root, processes):
        settings = {"batch_size": 4 // processes, "eval_batch_size": 2}
        datamodule = data(root, encoders[kind], pool=rows("pool", 20), **settings)
        several = {"devices": processes, "strategy": strategy() if processes > 1 else "auto"}
        fit(root, datamodule, encoders[kind], (8, 0), max_epochs=2, **several)

    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
    assert in_a_process(lambda: train(tmp_path / "1", 1)) == 0
    in_two_processes(lambda: train(tmp_path / "2", 2), tmp_path / "2")
    folders = [tmp_path / str(processes) / "run/seed-0/8/0" for processes in (1, 2)]
    one, two = (json.loads((folder / "result.json").read_text()) for folder in folders)
    for split in ("val", "test"):
        assert two[split] == pytest.approx(one[split], rel=1e-3, abs=1e-4)
    records = [(folder / "test_examples.jsonl").read_text().splitlines() for folder in folders]
    assert [json.loads(line)["id"] for line in records[0]] == [json.loads(line)["id"] for line in records[1]]


def test_the_configuration_fits_the_models(tmp_path, encoders):
    """Neither biases nor norms are decayed, and what is monitored is logged."""
    content = yaml.safe_load((Path(__file__).parents[3] / "configs/tasks/text_classification.yaml").read_text())
    for kind in ("bert", "roberta", "modernbert"):
        model = configured(data(tmp_path, encoders[kind]), encoders[kind])
        groups = parameter_groups(model, OptimizerConfig(**content["optimizer"]))
        decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
        assert all((id(parameter) in decayed) is (parameter.ndim > 1) for parameter in model.parameters())
        assert {content["monitor"].removeprefix("val/"), *content["metrics"]} <= {*model.val_scores.compute()}
