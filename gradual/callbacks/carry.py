"""Carries the weights of one stage into the next."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class CarryWeights(Callback):
    """Starts a stage from the weights of a checkpoint; optimizer, schedules and loops stay fresh.

    Args:
        checkpoint: The parent stage's ``best.ckpt``.
    """

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load through the strategy, which knows how the weights are spread over devices."""
        checkpoint = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        pl_module.on_load_checkpoint(checkpoint)
        trainer.strategy.load_model_state_dict(checkpoint, strict=pl_module.strict_loading)


def load_weights(module: LightningModule, checkpoint: Path) -> None:
    """Load a stage's weights into ``module``, outside of any Trainer."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"], strict=module.strict_loading)
