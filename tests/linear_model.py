"""A linear model and its data: small enough to train whole trees of stages in a test, in any process."""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from torch import nn

from gradual import MixedDomainDataModule, OptimizerConfig
from gradual.experiment.experiment import Experiment
from gradual.runs.directory import RunDirectory
from gradual.settings import TrainSettings


class Examples(list):
    """A map-style dataset with ids."""

    def __init__(self, name: str, size: int, slope: float, seed: int):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(size, 3, generator=generator)
        super().__init__(zip(inputs, inputs.sum(1, keepdim=True) * slope))
        self.ids = [f"{name}{index}" for index in range(size)]


class LinearModel(LightningModule):
    """Writes down each fit in a file, so that a test can count what was trained in other processes."""

    def __init__(self, log: Path):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.drop = nn.Dropout(0.1)
        self.log_file = log

    def on_train_start(self) -> None:
        with self.log_file.open("a") as file:
            file.write(f"{Path(self.trainer.checkpoint_callback.dirpath).name}\n")

    def _losses(self, batch):
        inputs, targets = batch
        return (self.layer(self.drop(inputs)) - targets).square()

    def training_step(self, batch, batch_idx):
        return self._losses(batch).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._losses(batch).mean(), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        losses = self._losses(batch)
        self.log("test/loss", losses.mean(), batch_size=len(losses))
        close = losses.squeeze(1) < 0.5
        self.log("test/close", close.float().mean(), batch_size=len(losses))
        return [{"id": f"{batch_idx}-{i}", "close": [int(value), 1]} for i, value in enumerate(close)]


def make_data(changes) -> MixedDomainDataModule:
    parts = {
        "in_domain": Examples("in", 8, 2.0, 1),
        "out_of_domain": Examples("out", 4000, 1.0, 2),
        "val": Examples("val", 8, 2.0, 3),
        "test": Examples("test", 8, 2.0, 4),
        "batch_size": 512,
    }
    return MixedDomainDataModule(**(parts | dict(changes)))


def trainer_arguments() -> dict:
    return {"accelerator": "cpu", "max_epochs": 2, "enable_progress_bar": False, "logger": False}


def make_experiment(root: str) -> Experiment:
    """Everything in one folder; importable and picklable, for worker processes."""
    return Experiment(
        lambda: LinearModel(Path(root) / "trained.txt"),
        make_data,
        RunDirectory(Path(root) / "run"),
        TrainSettings(optimizer=OptimizerConfig(lr=0.05)),
        trainer_arguments,
    )


def trained(root: Path) -> list[str]:
    """The stages that were trained in ``root``, in order, by folder name."""
    log = root / "trained.txt"
    return log.read_text().split() if log.exists() else []
