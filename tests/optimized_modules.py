"""Small modules for tests of optimizers: one whose parameters have names to match, and one that configures its own."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn


def network():
    return nn.ModuleDict(
        {
            "encoder": nn.ModuleDict({"first": nn.Linear(3, 2), "norm": nn.LayerNorm(2)}),
            "head": nn.Linear(2, 2),
        }
    )


class Fitted(LightningModule):
    def __init__(self, configure):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.configure = configure

    def configure_optimizers(self):
        return self.configure(self)

    def training_step(self, batch, batch_index):
        return self.layer(batch.float().view(-1, 1)).sum()


def fit(configure, steps=3, **arguments):
    model = Fitted(configure)
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **arguments,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(list(range(1, steps + 1))))
    return model
