"""Small runs of which something changes before they are started again, and what they are refused with."""

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from linear_model import Examples
from torch import nn

import gradual
from gradual import InputError, MixedDomainDataModule

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}


class Net(LightningModule):
    """A linear model that writes down what is done with it."""

    def __init__(self, dropout: float = 0.1, hidden: int = 4, seed: int = 0, activation=nn.functional.relu):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Linear(3, hidden)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, 1)
        self.activation = activation
        self.trained: list[str] = []
        self.tested = 0

    def forward(self, inputs):
        return self.head(self.drop(self.activation(self.encoder(inputs))))

    def on_train_start(self):
        self.trained.append(Path(self.trainer.checkpoint_callback.dirpath).name)

    def on_test_start(self):
        self.tested += 1

    def _loss(self, batch):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        losses = (self(batch[0]) - batch[1]).square().squeeze(1)
        self.log("test/loss", losses.mean(), batch_size=len(losses))
        return [{"id": f"{batch_idx}-{i}", "loss": [float(value), 1]} for i, value in enumerate(losses)]


class Cut(Callback):
    """Fails as the second stage begins to train, as a power cut would."""

    def on_train_start(self, trainer, pl_module):
        if trainer.datamodule.stage == 1:
            raise RuntimeError("power cut")


PARTS = {
    "in_domain": ("in", 12, 2.0, 1),
    "out_of_domain": ("out", 40, 1.0, 2),
    "val": ("val", 8, 2.0, 3),
    "test": ("test", 8, 2.0, 4),
}


def data(batch_size: int = 4, **changes) -> MixedDomainDataModule:
    """The experiment's data with some parts changed: arguments of ``Examples``, a dataset, or None."""
    made = {name: Examples(*part) if isinstance(part, tuple) else part for name, part in (PARTS | changes).items()}
    return MixedDomainDataModule(**made, batch_size=batch_size)


def fit(root: Path, model=None, schedule=(20, 0), **settings):
    model = Net() if model is None else model
    given = {"optimizer": {"lr": 0.05}, "max_epochs": 1, **QUIET, **settings}
    datamodule = given.pop("data", None) or data()
    return model, gradual.fit(model, datamodule, schedule, root / "run", **given)


def refusal(root: Path, *arguments, **settings) -> str:
    """The differences that a run is refused with; it leaves the directory as it was."""
    before = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        fit(root, *arguments, **settings)
    message = str(caught.value)
    start, end = f"{root}/run holds another experiment (", "): choose another run_dir, or change it back."
    assert message.startswith(start)
    assert message.endswith(end)
    after = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if path.name != ".lock"} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }
    return message.removeprefix(start).removesuffix(end)


class Stretched(Net):
    """Another class with the same layers."""


def moved(model: LightningModule, name: str) -> LightningModule:
    with torch.no_grad():
        model.get_parameter(name).view(-1)[-1] += 0.01
    return model


def scores(root: Path) -> list[float]:
    """Test losses of the stages of a path, the first one first."""
    paths = sorted((root / "run").rglob("result.json"), key=lambda path: len(path.parts))
    return [json.loads(path.read_text())["test"]["loss"] for path in paths]
