"""The result of a path: the last stage, the best one on validation, or the average of the stages' weights."""

import json
import re
from pathlib import Path

import pytest
import torch
from adapted_model import fit as fit_adapted
from lightning.pytorch import Callback
from linear_model import make_experiment
from recorded_runs import LinearModel, Scripted, data, path_results, run, weights

import gradual
from gradual import InputError, Stage, Strategy
from gradual.cli.chosen_stage import choose_stage
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import in_process
from gradual.experiment.final import Final
from gradual.experiment.strategies import parse_strategies
from gradual.report.collect import read_comparison
from gradual.report.scores import final_score
from gradual.schedule import Schedule


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-6, atol=1e-7)


class Falling(Scripted):
    """Validates each stage as the list says, whatever its epochs: 3, 1, 2."""

    def __init__(self):
        super().__init__([0.0])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", [3.0, 1.0, 2.0][self.trainer.datamodule.stage], batch_size=1)


def test_the_best_stage_is_chosen_on_validation(tmp_path):
    model, result = run(tmp_path, Falling(), final="best")
    assert result.best_stage == 1
    assert result.final_stage is result.stages[1]
    assert_equal(model.state_dict(), weights(tmp_path / "run/seed-0/20/5/best.ckpt"))
    assert result.best_checkpoint() == tmp_path / "run/seed-0/20/5/best.ckpt"
    assert path_results(tmp_path / "run")["final"] == {
        "path": "seed-0/20/5", "val": result.stages[1].val, "test": result.stages[1].test,
    }  # fmt: skip
    assert choose_stage(tmp_path / "run").checkpoint == tmp_path / "run/seed-0/20/5/best.ckpt"
    assert "stage 2, the best on validation" in result.remarks()[-1]


def test_the_best_stage_is_chosen_from_the_results_even_if_the_file_was_written_before_the_last_of_them(tmp_path):
    run(tmp_path, Falling(), final="best")
    file = tmp_path / "run/results.json"
    content = json.loads(file.read_text())
    path = content["strategies"]["fit"]["seeds"]["0"]
    path |= {"stages": path["stages"][:1], "best_stage": 0, "final": {"path": "seed-0/20", "val": {"loss": 3.0}}}
    file.write_text(json.dumps(content))
    (strategy,) = read_comparison(tmp_path / "run", name="results.json").strategies
    assert strategy.final(0).path == "seed-0/20/5"
    assert final_score(strategy, "val", "loss").by_seed == {0: 1.0}
    assert choose_stage(tmp_path / "run").checkpoint == tmp_path / "run/seed-0/20/5/best.ckpt"


def test_an_average_is_the_mean_of_the_weights_and_measured_like_a_stage(tmp_path):
    model, result = run(tmp_path, final={"average": 2})
    folder = tmp_path / "run/seed-0/20/5/0/average-from-2"
    stages = [weights(result.best_checkpoint(k)) for k in (1, 2)]
    by_hand = {name: (stages[0][name] + stages[1][name]) / 2 for name in stages[0]}
    assert_equal(weights(folder / "best.ckpt"), by_hand)
    assert_equal(model.state_dict(), by_hand)
    assert result.final["val"]["loss"] == pytest.approx(Scripted.validation_loss(by_hand, "val", 3), rel=1e-5)
    assert result.final["test"]["loss"] == pytest.approx(Scripted.validation_loss(by_hand, "test", 4), rel=1e-5)
    assert path_results(tmp_path / "run")["final"]["path"] == "seed-0/20/5/0/average-from-2"
    assert choose_stage(tmp_path / "run").checkpoint == folder / "best.ckpt"
    assert len(result.stages) == 3
    assert (result.average.averaged, result.average.steps) == (2, 0)


def test_changing_the_result_of_a_path_trains_nothing_again(tmp_path):
    run(tmp_path)
    for final in ("average", "best", {"average": 2}, "last"):
        model, result = run(tmp_path, final=final)
        assert not model.losses
        assert_equal(model.state_dict(), weights(result.best_checkpoint()))


def test_an_average_that_was_interrupted_is_finished_later(tmp_path):
    _, expected = run(tmp_path / "whole", final="average")

    class Cut(Callback):
        def on_test_start(self, trainer, pl_module):
            if Path(trainer.default_root_dir).name == "average-from-1":
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, final="average", callbacks=[Cut()])
    assert "final" not in path_results(tmp_path / "run")
    with pytest.raises(InputError, match="is not finished"):
        choose_stage(tmp_path / "run")
    model, result = run(tmp_path, final="average")
    assert not model.losses
    assert result.final == expected.final
    assert_equal(weights(result.best_checkpoint()), weights(expected.best_checkpoint()))


def test_a_damaged_average_is_made_again(tmp_path):
    _, result = run(tmp_path, final="average")
    before = weights(result.best_checkpoint())
    result.best_checkpoint().write_bytes(b"damaged")
    _, again = run(tmp_path, final="average")
    assert_equal(weights(again.best_checkpoint()), before)


def test_the_average_of_one_stage_is_the_last_stage(tmp_path):
    _, result = run(tmp_path, schedule=[20, 0], final={"average": 2})
    assert result.final_stage is result.stages[1]
    assert not list(tmp_path.rglob("average*"))


def test_counters_are_those_of_the_last_stage(tmp_path):
    class Normalized(LinearModel):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(4)

        def _loss(self, batch):
            inputs, targets = batch
            return torch.nn.functional.mse_loss(self.head(self.norm(self.encoder(inputs))), targets)

    _, result = run(tmp_path, Normalized(), [20, 0], final="average")
    stages = [weights(result.best_checkpoint(k)) for k in (0, 1)]
    mean = weights(result.best_checkpoint())
    assert torch.equal(mean["norm.num_batches_tracked"], stages[1]["norm.num_batches_tracked"])
    between = (stages[0]["norm.running_mean"] + stages[1]["norm.running_mean"]) / 2
    assert mean["norm.running_mean"].tolist() == pytest.approx(between.tolist(), rel=1e-6)


def test_adapters_of_different_weights_are_not_averaged(tmp_path):
    schedule = [24, Stage(12, adapter="merge"), 0]
    with pytest.raises(InputError, match=re.escape("stage 2 merges the adapter before it (adapter: merge)")):
        fit_adapted(tmp_path, schedule, final="average")
    fit_adapted(tmp_path, schedule, final={"average": 2})
    assert (tmp_path / "run/seed-0/24/12/0/average-from-2/result.json").exists()


@pytest.mark.parametrize("given", ["first", {"average": 0}, {"average": "two"}, {"best": 1}, 3, ["last"]])
def test_other_results_are_refused(tmp_path, given):
    with pytest.raises(InputError, match=r"final is .*: it must be 'last', 'best', 'average', or \{'average': 2\}"):
        gradual.fit(LinearModel(), data(), [0], tmp_path, final=given)


@pytest.mark.slow
def test_a_comparison_reports_the_result_of_each_path(tmp_path):
    experiment = make_experiment(str(tmp_path))
    experiment.final = Final("best")
    described = {"mine": {"schedule": [200, 20, 0]}, "averaged": {"schedule": [200, 20, 0], "final": {"average": 2}}}
    strategies = {
        **parse_strategies(described, Schedule([200, 20, 0])),
        "last": Strategy(Schedule([200, 0]), final="last"),
    }
    tree = plan_tree(experiment, strategies, [0, 1])
    page = compare_tree(experiment, tree, in_process(experiment))
    content = json.loads((tmp_path / "run/compare.json").read_text())["strategies"]
    assert [content[name].get("final") for name in strategies] == ["best", {"average": 2}, None]
    comparison = read_comparison(tmp_path / "run")
    shown = {strategy.name: final_score(strategy, "val", "loss").by_seed for strategy in comparison.strategies}
    for seed in (0, 1):
        path = [json.loads((tmp_path / f"run/seed-{seed}" / folder / "result.json").read_text())["val"]["loss"]
                for folder in ("200", "200/20", "200/20/0", "200/20/0/average-from-2", "200/0")]  # fmt: skip
        assert shown["mine"][seed] == min(path[:3])
        assert shown["averaged"][seed] == path[3]
        assert shown["last"][seed] == path[4]
    notes = (page.parent / "table.md").read_text()
    assert "mine: its result is the best stage on validation" in notes
    assert "averaged: its result is the average of its stages' weights" in notes
    assert "are the same path" not in notes
