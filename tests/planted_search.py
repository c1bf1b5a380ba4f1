"""A task whose validation score is a known function of the schedule: for tests of the search."""

import functools
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from linear_model import Examples
from torch import nn

import gradual
from gradual import MixedDomainDataModule

POOL = 64
BEST = [32, 8, 0]
FIRST = [64, 16, 0]


def score_of(path: Sequence[int]) -> float:
    """The score after a path of amounts: higher is better, and highest after ``BEST``."""
    wanted = [*BEST, *[0] * len(path)]
    return 1 - sum(abs(amount - target) for amount, target in zip(path, wanted)) / POOL - 0.1 * abs(len(path) - 3)


class Planted(LightningModule):
    """Its weights are the amounts that it was trained with; it writes down each stage that it trains."""

    def __init__(self, log: str, kill_at: int = 0):
        super().__init__()
        self.trained = log
        self._kill_at = kill_at
        self.layer = nn.Linear(3, 1)
        self.amounts = nn.Parameter(torch.full((6,), -1.0), requires_grad=False)

    def path(self) -> list[int]:
        return [int(amount) for amount in self.amounts.tolist() if amount >= 0]

    def on_train_start(self):
        data = self.trainer.datamodule
        self.amounts[data.stage] = data.amounts[data.stage]
        with Path(self.trained).open("a") as file:
            file.write(json.dumps(self.path()) + "\n")
        if len(Path(self.trained).read_text().splitlines()) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return nn.functional.mse_loss(self.layer(inputs), targets)

    def validation_step(self, batch, batch_idx):
        self.log("val/score", score_of(self.path()), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/score", score_of(self.path()) / 2, batch_size=len(batch[0]))


class Unread(torch.utils.data.Dataset):
    """A test split that nobody may look at."""

    @property
    def ids(self):
        raise AssertionError("the ids of the test data were read")

    def __len__(self):
        raise AssertionError("the size of the test data was read")

    def __getitem__(self, index):
        raise AssertionError("a test example was read")


def data(test=None) -> MixedDomainDataModule:
    return MixedDomainDataModule(
        Examples("in", 4, 2.0, 1), Examples("out", POOL, 1.0, 2), Examples("val", 4, 2.0, 3), test, batch_size=64
    )


SETTINGS = {
    "monitor": "val/score",
    "mode": "max",
    "optimizer": {"lr": 0.01},
    "max_epochs": 1,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "logger": False,
    "num_sanity_val_steps": 0,
}
CHOICES = {"multiples": [1, 0.5, 0.25, 0.125], "lr_scales": [1]}


def search(root: Path, kill_at: int = 0, test=None, model=Planted, **changes):
    """Search in ``root``; the process is killed when the ``kill_at``-th stage begins."""
    arguments = {"budget": 600, "confirm_seeds": [], "search": CHOICES, **SETTINGS, **changes}
    make = functools.partial(model, str(root / "trained.txt"), kill_at)
    return gradual.search(make, data(test), arguments.pop("schedule", FIRST), root / "run", **arguments)


def trained(root: Path) -> list[list[int]]:
    """The paths to the stages that were trained, in order."""
    return [json.loads(line) for line in (root / "trained.txt").read_text().splitlines()]


def record(root: Path) -> dict:
    return json.loads((root / "run/search.json").read_text())
