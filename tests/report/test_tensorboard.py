"""TensorBoard runs of strategies: mean and spread over seeds, whatever the scores are."""

import functools
import json
import math

import linear_model
import pytest
from report_files import stage_paths, write_comparison, write_stage
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

import gradual
from gradual.report.tensorboard import save_strategies


def write(root, scores, strategies):
    """A comparison of one stage each whose validation scores are given by seed."""
    content = write_comparison(root, strategies, range(len(scores)), metrics=())
    for strategy in content["strategies"].values():
        for of_seed in strategy["seeds"].values():
            of_seed["final"] = {"path": of_seed["paths"][-1]}
    (root / "compare.json").write_text(json.dumps(content | {"baseline": None, "val_metrics": ["pearson"]}))
    for path in stage_paths(content):
        write_stage(root, path, {}, val={"pearson": scores[int(path.split("/")[0].removeprefix("seed-"))]})
    return root


@pytest.mark.parametrize(
    ("scores", "mean", "spread"),
    [
        ([0.25, 0.75], 0.5, math.sqrt(0.125)),
        ([0.25], 0.25, 0.0),
        ([0.25, math.nan], math.nan, math.nan),
        ([0.25, math.inf], math.inf, math.nan),
        ([-math.inf, math.inf], math.nan, math.nan),
        ([math.nan], math.nan, 0.0),
    ],
)
def test_mean_and_spread_are_written_whatever_the_scores(tmp_path, scores, mean, spread):
    save_strategies(write(tmp_path, scores, {"mixed": [20]}))
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "strategies")).Reload()
    tags = {"mean": mean, "low": mean - spread, "high": mean + spread}
    for tag, expected in tags.items():
        (event,) = runs.Scalars("mixed", f"val/pearson/{tag}")
        assert event.value == pytest.approx(expected, nan_ok=True)


def test_each_strategy_has_a_run_of_its_own_whatever_its_name(tmp_path):
    names = ["a/b", "a-b", "a-b-2", "a\\b", "..", ".", "x" * 300, "x" * 299 + "y", "größer als 漢" * 20]
    save_strategies(write(tmp_path, [0.25], {name: [number] for number, name in enumerate(names)}))
    folders = sorted(path for path in (tmp_path / "strategies").iterdir())
    assert len(folders) == len(names)
    assert [len([*folder.glob("events.out.*")]) for folder in folders] == [2] * len(names), "one of hyperparameters"
    assert {"a-b", "a-b-2"} < {folder.name for folder in folders}, "a name that can be a folder's is its folder's"
    assert [path.name for path in tmp_path.iterdir() if "events" in path.name] == []
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "strategies")).Reload()
    for run in runs.Runs():
        assert len(runs.Scalars(run, "val/pearson/mean")) == 1


class Undefined(linear_model.LinearModel):
    """Its correlation is not a number under seed 1, as with predictions that never vary."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        score = math.nan if self.trainer.datamodule.seed == 1 else 0.5
        self.log("val/pearson", score, batch_size=len(batch[0]))


def test_a_comparison_with_a_score_that_is_not_a_number_has_its_report(tmp_path):
    page = gradual.compare(
        functools.partial(Undefined, tmp_path / "trained.txt"),
        linear_model.make_data({}),
        [20, 0],
        tmp_path / "run",
        seeds=[0, 1],
        strategies=["gradual", "in-domain only"],
        optimizer={"lr": 0.05},
        **{**linear_model.trainer_arguments(), "max_epochs": 1},
    )
    assert "nan" in (page.parent / "table.md").read_text()
    assert {path.name for path in (tmp_path / "run/strategies").iterdir()} == {"gradual", "in-domain only"}


def test_the_report_is_written_before_the_tensorboard_runs(tmp_path, monkeypatch):
    from gradual.experiment import driver

    def full(root):
        raise OSError("no space")

    monkeypatch.setattr(driver, "save_strategies", full)
    write(tmp_path, [0.25, 0.75], {"mixed": [20]})
    with pytest.raises(OSError, match="no space"):
        driver._report(tmp_path)
    assert (tmp_path / "report/report.html").is_file()
