"""Learning rates of controls are planned as in what they copy."""

import json
import math

import pytest
import torch
from controlled_runs import SLOWER, Counting, compare, make_experiment, results

from gradual import LRScheduleConfig, OptimizerConfig, Schedule, Strategy
from gradual.runs.directory import StageDirectory

pytestmark = pytest.mark.usefixtures("undrawn_figures")


def rates(root, path):
    lines = [json.loads(line) for line in (root / "counted.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if line["path"] == path and "step" in line]


@pytest.mark.slow
def test_learning_rates_are_planned_as_in_what_is_copied(tmp_path):
    settings = {"lr_schedule": LRScheduleConfig(name="linear", warmup=0.1)}
    compare(tmp_path, {"gradual": Strategy(Schedule([24, SLOWER, 0]))}, settings=settings)
    for path, copied in (("24/24-as-12", "24/12"), ("24/0-as-12", "24/12"), ("24/0-as-12/0-as-0", "24/12/0")):
        assert rates(tmp_path, path) == rates(tmp_path, copied)
    planned = 40 * (8 + 5)  # of the two stages together, of which the first tenth warms up
    by_hand = [0.05 * min(step / (planned / 10), (planned - step) / (0.9 * planned)) for step in range(60)]
    assert rates(tmp_path, "24-as-24+12") == pytest.approx(by_hand, rel=1e-6)


class OwnPlan(Counting):
    """A schedule of its own, over the epochs that the Trainer plans."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)]

    def on_train_start(self):
        epochs = self.trainer.lr_scheduler_configs[0].scheduler.T_max
        self._write({"epochs": epochs, "steps": self.trainer.estimated_stepping_batches})


@pytest.mark.slow
def test_a_module_s_own_schedule_sees_the_plan_too(tmp_path):
    experiment = make_experiment(tmp_path, OwnPlan, {"optimizer": OptimizerConfig()})
    compare(tmp_path, experiment=experiment)
    lines = [json.loads(line) for line in (tmp_path / "counted.jsonl").read_text().splitlines()]
    plans = {line["path"]: (line["epochs"], line["steps"]) for line in lines if "epochs" in line}
    assert plans["24/12"] == (40, 200)
    assert plans["24/24-as-12"] == (25, 200)  # epochs of 8 steps
    assert plans["24/0-as-12"] == (100, 200)  # of 2 steps
    assert plans["24-as-24+12+4"] == (80, 40 * 16)


class Collapsing(Counting):
    """Its loss is NaN with 12 out-of-domain examples at rates above 0.03, and without any above 0.015."""

    highest = {12: 0.03, 0: 0.015}

    def training_step(self, batch, batch_idx):
        highest = self.highest.get(self.trainer.datamodule.amounts[self.trainer.datamodule.stage], math.inf)
        loss = super().training_step(batch, batch_idx)
        return loss * math.nan if self.trainer.optimizers[0].param_groups[0]["lr"] > highest else loss


def test_a_control_of_a_stage_that_collapsed_has_the_lower_rates_that_it_was_trained_with(tmp_path):
    experiment = make_experiment(tmp_path, Collapsing, max_epochs=3)
    kinds = ["same training, same restarts", "same training, drop at once", "same training, one stage"]
    compare(tmp_path, {"gradual": Strategy(Schedule([24, 12, 0]))}, kinds, experiment=experiment)
    found = {path: ([c["lr_scale"] for c in r["collapses"]], r["steps"]) for path, r in results(tmp_path).items()}
    assert found == {
        "24": ([], 24),
        "24/12": ([1.0], 15),
        "24/12/0": ([1.0, 0.5], 6),
        "24/24-as-12": ([], 15),
        "24/24-as-12/0-as-0": ([], 6),
        "24/0-as-12": ([0.5], 15),  # which collapses by itself at the rate of what it copies
        "24/0-as-12/0-as-0": ([], 6),
        "24-as-24+12": ([], 39),
        "24-as-24+12/0-as-0": ([], 6),
    }
    ends = {path: rates(tmp_path, path)[-1] for path in found}
    assert ends["24"] == ends["24-as-24+12"] == 0.05
    assert ends["24/12"] == ends["24/24-as-12"] == 0.025
    last = [ends[path] for path in ends if path.endswith(("/0", "/0-as-0", "0-as-12"))]
    assert last == [0.0125] * 5


def test_the_folder_of_a_control_of_a_stage_that_did_not_collapse_is_that_of_an_earlier_version(whole):
    settings = StageDirectory(whole / "run/seed-0/24/24-as-12").settings()
    assert settings["same_training"] == {"steps": 20, "planned_steps": 200, "validations": 4}
