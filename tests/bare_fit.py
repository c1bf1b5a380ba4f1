"""A Trainer with the callbacks under test and no others, for callbacks that need Lightning's own loops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import nn
from torch.utils.data import DataLoader

BATCHES = 4  # of an epoch, with two examples each


class ScriptedModule(LightningModule):
    """A linear layer whose validation score in each epoch is written down beforehand."""

    def __init__(self, scores: Sequence[float] = (0.0,)):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.scores = scores

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/score", self.scores[min(self.trainer.current_epoch, len(self.scores) - 1)], batch_size=1)

    def test_step(self, batch, batch_idx):
        self.log("test/score", self.layer(batch).mean(), batch_size=len(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader:
    return DataLoader(torch.linspace(-1, 1, 6 * BATCHES).reshape(-1, 3), batch_size=2)


def trainer_with(*callbacks: Callback, **arguments: Any) -> Trainer:
    settings = {
        "accelerator": "cpu", "max_epochs": 2, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": any(isinstance(each, Checkpoint) for each in callbacks),
    }  # fmt: skip
    return Trainer(callbacks=list(callbacks), **(settings | arguments))


def fit(
    module: LightningModule, *callbacks: Callback, resume: Path | None = None, **arguments: Any
) -> tuple[LightningModule, Trainer]:
    """Train and validate with some callbacks."""
    trainer = trainer_with(*callbacks, **arguments)
    trainer.fit(module, loader(), loader(), ckpt_path=resume, weights_only=True)
    return module, trainer
