"""Carries the weights of one stage into the next."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict


class CarryWeights(Callback):
    """Starts a stage from the weights of a checkpoint; optimizer, schedules and loops stay fresh.

    Args:
        checkpoint: The parent stage's ``best.ckpt``.
    """

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load them, into each process's share where the strategy has divided the module among processes."""
        checkpoint = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        pl_module.on_load_checkpoint(checkpoint)
        if divides_modules(trainer):  # Lightning's own way is for whole checkpoints only, and does nothing here
            options = StateDictOptions(full_state_dict=True, strict=pl_module.strict_loading)
            assert trainer.strategy.model is not None
            set_model_state_dict(trainer.strategy.model, checkpoint["state_dict"], options=options)
        else:
            trainer.strategy.load_model_state_dict(checkpoint, strict=pl_module.strict_loading)


def divides_modules(trainer: Trainer) -> bool:
    """Whether each process holds a share of the module alone, as with FSDP."""
    return trainer.strategy.restore_checkpoint_after_setup


def load_weights(module: LightningModule, checkpoint: Path) -> None:
    """Load a stage's weights into ``module``, outside of any Trainer."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"], strict=module.strict_loading)
