"""Comparisons with controls, of a model that counts its steps and validations and whose scores are set."""

import json
from collections import Counter
from pathlib import Path

import linear_model

from gradual import OptimizerConfig, Schedule, Strategy, TrainSettings
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import in_process
from gradual.experiment.experiment import Experiment
from gradual.runs.directory import RunDirectory

PATH = [24, 12, 4, 0]  # 8, 5, 3 and 2 batches an epoch
GRADUAL = {"gradual": Strategy(Schedule(PATH))}


class Counting(linear_model.LinearModel):
    """Writes a line per optimizer step and per validation; its validation scores decide when patience ends a stage."""

    losses = {24: [5, 4, 3, 4, 4], 12: [5, 4, 4], 4: [5, 4, 3, 2, 1, 2, 2], 2: [5], 0: [5, 4, 3, 3, 3]}

    def _write(self, what):
        folder = Path(self.trainer.checkpoint_callback.dirpath)
        path = folder.relative_to(next(parent for parent in folder.parents if parent.name.startswith("seed-")))
        with self.log_file.with_name("counted.jsonl").open("a") as file:
            file.write(json.dumps({"path": str(path), **what}) + "\n")

    def optimizer_step(self, *arguments, **more):
        super().optimizer_step(*arguments, **more)
        self._write({"step": self.trainer.global_step, "lr": self.trainer.optimizers[0].param_groups[0]["lr"]})

    def training_step(self, batch, batch_idx):
        self.seen = len(batch[0])
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self._write({"validation": self.trainer.global_step})
        script = self.losses[self.trainer.datamodule.amounts[self.trainer.datamodule.stage]]
        epoch = self.trainer.current_epoch
        self.log("val/loss", float(script[min(epoch, len(script) - 1)]), batch_size=len(batch[0]))


def make_experiment(root, cls=Counting, settings=None, data=None, **trainer) -> Experiment:
    arguments = {**linear_model.trainer_arguments(), "max_epochs": 40, **trainer}
    defaults = {"optimizer": OptimizerConfig(lr=0.05), "patience": 2, **(settings or {})}
    return Experiment(
        lambda: cls(Path(root) / "trained.txt"),
        lambda changes: linear_model.make_data({"batch_size": 4, **(data or {}), **changes}),
        RunDirectory(Path(root) / "run"),
        TrainSettings(**defaults),
        lambda: dict(arguments),
    )


def compare(root, strategies=GRADUAL, controls=True, seeds=(0,), execute=None, experiment=None, **more):
    experiment = experiment or make_experiment(root, **more)
    tree = plan_tree(experiment, strategies, seeds, controls)
    compare_tree(experiment, tree, execute or in_process(experiment))
    return tree


def counted(root) -> tuple[Counter, Counter]:
    """The optimizer steps and the validations of each stage, by its path, as the model counted them."""
    lines = [json.loads(line) for line in (root / "counted.jsonl").read_text().splitlines()]
    steps, validations = Counter(), Counter()
    for line in lines:
        (steps if "step" in line else validations)[line["path"]] += 1
    return steps, validations


# 24 out-of-domain: 5 epochs of 8 batches; 12: 4 of 5; 4: 7 of 3; 0: 5 of 2
OWN = {"24": 40, "24/12": 20, "24/12/4": 21, "24/12/4/0": 10}
COPIES = {
    "24-as-24+12+4": 81,
    "24-as-24+12+4/0-as-0": 10,
    "24/24-as-12": 20,
    "24/24-as-12/24-as-4": 21,
    "24/24-as-12/24-as-4/0-as-0": 10,
    "24/0-as-12": 20,
    "24/0-as-12/0-as-4": 21,
    "24/0-as-12/0-as-4/0-as-0": 10,
    "24-as-24+12+4+0": 91,
}
SHARED = {"24-as-24+12+4": 40, "24-as-24+12+4+0": 40}  # with the first stage, which takes them for all


def results(root) -> dict[str, dict]:
    folder = root / "run/seed-0"
    return {
        str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in folder.glob("**/result.json")
    }


SLOWER = {"amount": 12, "optimizer": {"lr_scale": 0.5}}
