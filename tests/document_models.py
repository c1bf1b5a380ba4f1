"""The ``my_module`` of the documents: a model and data such as a user would have."""

import torch
from lightning.pytorch import LightningModule
from torch import nn

import gradual


class MyModel(LightningModule):
    """A linear layer, whose stages end after their first batch; a batch is numbers, or a dict of ``FileDataModule``."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def loss(self, batch):
        numbers = batch["input_ids"][:, 0] if isinstance(batch, dict) else batch
        return (self.layer(numbers.float()[:, None]) ** 2).mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self.loss(batch))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.trainer.should_stop = True


def names():
    """What the Python of the documents takes for granted."""
    return {
        "train": torch.arange(32.0), "pool": torch.arange(1000.0, 5000.0), "dev": -torch.arange(1.0, 9.0),
        "test": -torch.arange(11.0, 19.0), "model": MyModel(), "make_model": MyModel,
    }  # fmt: skip


class MyData(gradual.MixedDomainDataModule):
    def load(self):
        known = names()
        return gradual.Domains(known["train"], known["pool"], known["dev"], known["test"])
