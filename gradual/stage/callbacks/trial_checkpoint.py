"""A checkpoint tried at the start of a stage: what could not be read back later is said before the first step."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from gradual.errors import InputError
from gradual.runs.checkpoint import WholeCheckpointIO
from gradual.runs.plain_data import TABLE, to_plain
from gradual.stage.callbacks.carry import is_sharded


class TrialCheckpoint(Callback):
    """Makes the checkpoint that the stage would be saved with, in memory and without copies of tensors.

    Where a strategy divides the module, whole weights would have to be gathered for it: there the first checkpoint that
    is written says the same.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try it.

        Raises:
            InputError: A state in it could not be read back.
        """
        if is_sharded(trainer):
            return
        own = trainer.strategy.checkpoint_io
        trainer.strategy.checkpoint_io = _Trial(converts=isinstance(own, WholeCheckpointIO))
        try:
            trainer.save_checkpoint("trial", weights_only=False)
        finally:
            trainer.strategy.checkpoint_io = own


class _Trial(CheckpointIO):
    """Writes nothing.

    Args:
        converts: Whether what takes its place writes plain data for what is none.
    """

    def __init__(self, converts: bool):
        self._converts = converts

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        plain = to_plain(checkpoint)
        if TABLE in plain and not self._converts:
            raise InputError(
                f"What is to be saved of {', '.join(map(str, plain[TABLE]['inside']))} holds numpy numbers, arrays, "
                "paths or dates, which the Trainer's own CheckpointIO cannot read back: leave that plugin out."
            )

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        raise NotImplementedError

    def remove_checkpoint(self, path: Any) -> None:
        raise NotImplementedError
