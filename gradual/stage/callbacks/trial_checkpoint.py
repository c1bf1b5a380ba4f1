"""A trial checkpoint at the start of a stage, which detects states that could not be read back."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from gradual.errors import InputError
from gradual.runs.checkpoint import WholeCheckpointIO
from gradual.runs.serialization import TABLE, to_plain
from gradual.stage.callbacks.weights import is_sharded


class TrialCheckpoint(Callback):
    """Assembles a checkpoint of the stage before its first step, in memory and without copying tensors.

    This is skipped if the strategy shards the module, since the weights would have to be gathered; the first checkpoint
    that is written fails in the same way.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Assemble the checkpoint.

        Raises:
            InputError: It holds a state that could not be read back.
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
    """Checks what it is given, and writes nothing.

    Args:
        converts: Whether the actual ``CheckpointIO`` converts objects to plain data.
    """

    def __init__(self, converts: bool):
        self._converts = converts

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        plain = to_plain(checkpoint)
        if TABLE in plain and not self._converts:
            raise InputError(
                f"The state of {', '.join(map(str, plain[TABLE]['inside']))} contains NumPy numbers, arrays, paths or "
                "dates, which the Trainer's CheckpointIO plugin cannot read back: remove the plugin."
            )

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        raise NotImplementedError

    def remove_checkpoint(self, path: Any) -> None:
        raise NotImplementedError
