"""Other test data is measured by the weights that are there, without training."""

import json
from pathlib import Path

import pytest
import torch
from identified_runs import PARTS, Net, data, fit, scores
from linear_model import Examples
from recorded_runs import path_results
from torch.utils.data import Dataset


def by_hand(root: Path, stage: str, test: Dataset) -> list[float]:
    """A stage's losses on test examples, from its checkpoint."""
    model = Net().eval()
    model.load_state_dict(torch.load(root / "run" / stage / "best.ckpt", weights_only=True)["state_dict"])
    with torch.no_grad():
        return [float((model(inputs) - target).square()) for inputs, target in test]


@pytest.mark.parametrize("before", [None, PARTS["test"]], ids=["new", "changed"])
def test_other_test_data_alone_is_measured_again_without_training(tmp_path, before):
    fit(tmp_path, data=data(test=before))
    weights = {path: path.read_bytes() for path in tmp_path.rglob("best.ckpt")}
    other = Examples("test", 6, 3.0, 5)
    model, result = fit(tmp_path, data=data(test=other))
    assert (model.trained, model.tested) == ([], 2)
    assert {path: path.read_bytes() for path in weights} == weights
    for stage in result.stages:
        expected = by_hand(tmp_path, stage.path, other)
        assert stage.test["loss"] == pytest.approx(sum(expected) / 6, rel=1e-5)
        records = [json.loads(row) for row in (tmp_path / "run" / stage.path / "test_examples.jsonl").open()]
        assert [record["loss"][0] for record in records] == pytest.approx(expected, rel=1e-4)
    assert [stage["test"] for stage in path_results(tmp_path / "run")["stages"]] == [
        stage.test for stage in result.stages
    ]
    last = torch.load(result.best_checkpoint(), weights_only=True)["state_dict"]
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())
    assert fit(tmp_path, data=data(test=other))[0].tested == 0, "once is enough"


def test_without_its_test_data_a_run_keeps_its_scores(done):
    before = scores(done)
    _, result = fit(done, data=data(test=None))
    assert [stage.test["loss"] for stage in result.stages] == before


def test_only_stages_that_are_done_are_tested_again(done):
    model, result = fit(done, schedule=[20, 5, 0], data=data(test=("test", 6, 3.0, 5)))
    assert model.trained == ["5", "0"]
    assert model.tested == 3
    expected = by_hand(done, result.stages[0].path, Examples("test", 6, 3.0, 5))
    assert result.stages[0].test["loss"] == pytest.approx(sum(expected) / 6, rel=1e-5)


def test_a_run_interrupted_while_testing_again_resumes_with_the_rest(done):
    class Fails(Net):
        def on_test_start(self):
            super().on_test_start()
            if self.tested == 2:
                raise RuntimeError("power cut")

    Fails.__qualname__ = "Net"
    changed = data(test=("test", 6, 3.0, 5))
    with pytest.raises(RuntimeError, match="power cut"):
        fit(done, Fails(), data=changed)
    assert fit(done, data=changed)[0].tested == 1
