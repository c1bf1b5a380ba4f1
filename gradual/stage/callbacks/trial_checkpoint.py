"""A trial checkpoint at the start of a stage, which detects states and weights that could not be read back."""

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
            InputError: It holds a state that could not be read back, or lacks weights of the module.
        """
        if is_sharded(trainer):
            return
        own = trainer.strategy.checkpoint_io
        trainer.strategy.checkpoint_io = _Trial(pl_module, converts=isinstance(own, WholeCheckpointIO))
        try:
            trainer.save_checkpoint("trial", weights_only=False)
        finally:
            trainer.strategy.checkpoint_io = own


class _Trial(CheckpointIO):
    """Checks what it is given, and writes nothing.

    Args:
        module: The module.
        converts: Whether the actual ``CheckpointIO`` converts objects to plain data.
    """

    def __init__(self, module: LightningModule, converts: bool):
        self._module, self._converts = module, converts

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        plain = to_plain(checkpoint)
        if TABLE in plain and not self._converts:
            raise InputError(
                f"The state of {', '.join(map(str, plain[TABLE]['inside']))} contains NumPy numbers, arrays, paths or "
                "dates, which the Trainer's CheckpointIO plugin cannot read back: remove the plugin."
            )
        self._check_weights(checkpoint)

    def _check_weights(self, checkpoint: dict[str, Any]) -> None:
        """Check that a module whose ``on_save_checkpoint`` changes its weights can load them; it gets its own again."""
        module, state = self._module, dict(checkpoint["state_dict"])
        different = sorted(state.keys() ^ module.state_dict().keys())
        if not (different and module.strict_loading):
            return
        content = {**checkpoint, "state_dict": state}
        module.on_load_checkpoint(content)
        try:
            module.load_state_dict(content["state_dict"], strict=True)
        except RuntimeError as error:
            raise InputError(
                f"{type(module).__name__}.on_save_checkpoint leaves weights out of its checkpoints, or adds some "
                f"({different[0]}), so that neither its test nor the next stage could load them: set strict_loading to "
                "False, put them back in on_load_checkpoint, or leave frozen weights out with "
                "gradual.nn.frozen.leave_out."
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        raise NotImplementedError

    def remove_checkpoint(self, path: Any) -> None:
        raise NotImplementedError
