"""A module and data small enough for a dozen stages a second, for tests of what a stage is trained with."""

import torch
from lightning.pytorch import Callback, LightningModule
from linear_model import Examples
from torch import nn

import gradual

SCHEDULE = [24, 8, 0]  # 8, 4 and 2 batches an epoch


class Net(LightningModule):
    """Two layers with dropout between them, and an optimizer of its own; it counts its steps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(3, 4)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4, 1)
        self.steps = 0

    def forward(self, inputs):
        return self.head(self.drop(self.backbone(inputs)))

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.mse_loss(self(batch[0]), batch[1]), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", nn.functional.mse_loss(self(batch[0]), batch[1]), batch_size=len(batch[0]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Stop(Callback):
    """Fails at the given training step, as a power cut would; a checkpoint of the step before is there."""

    def __init__(self, at):
        self.at = at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at:
            raise PowerCut


class PowerCut(Exception):
    pass


def data(**changes):
    parts = {
        "in_domain": Examples("in", 8, 2.0, 1),
        "out_of_domain": Examples("out", 40, 1.0, 2),
        "val": Examples("val", 8, 2.0, 3),
        "test": Examples("test", 8, 2.0, 4),
        "batch_size": 4,
    }
    return gradual.MixedDomainDataModule(**(parts | changes))


def fit(root, model=None, schedule=SCHEDULE, datamodule=None, **settings):
    """The result of a run, and its model."""
    settings = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "max_epochs": 2, **settings}
    model = Net() if model is None else model
    return gradual.fit(model, datamodule or data(), schedule, root / "run", **settings), model
