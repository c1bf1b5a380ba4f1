"""Weights of checkpoints: loaded into a module when a stage starts, before its test, and outside of training."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from gradual.data.module import MixedDomainDataModule
from gradual.nn.compiled import named_as_in
from gradual.nn.frozen import leaves_out
from gradual.runs.checkpoint import read_checkpoint
from gradual.stage.adapter import adapter_of
from gradual.stage.layers import make_layers


class LoadWeights(Callback):
    """Loads the weights that a stage starts from, and those of its best epoch for the test; and nothing else.

    Args:
        start: The parent stage's ``best.ckpt``; None to start from the module's own weights.
        best: The stage's ``best.ckpt``.
        new_adapter: The seed of a new adapter, before which the one that ``start`` has is merged; None to keep that.
    """

    def __init__(self, start: Path | None, best: Path, new_adapter: int | None = None):
        self.start, self.best, self.new_adapter = start, best, new_adapter

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights to start from."""
        if is_sharded(trainer) and leaves_out(pl_module):  # Lightning's own loading of shares would miss the others
            pl_module.strict_loading = False
        if self.start is not None:
            _load(trainer, pl_module, self.start)
            adapter = adapter_of(pl_module)
            if self.new_adapter is not None and adapter is not None:
                adapter.merge(self.new_adapter)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights to test."""
        _load(trainer, pl_module, self.best)


def _load(trainer: Trainer, pl_module: LightningModule, checkpoint: Path) -> None:
    content = read_checkpoint(checkpoint)
    pl_module.on_load_checkpoint(content)
    if is_sharded(trainer):  # Lightning loads a sharded module only together with an optimizer's state
        assert trainer.strategy.model is not None
        options = StateDictOptions(full_state_dict=True, strict=pl_module.strict_loading)
        set_model_state_dict(trainer.strategy.model, content["state_dict"], options=options)
    else:
        content["state_dict"] = named_as_in(pl_module, content["state_dict"])
        trainer.strategy.load_model_state_dict(content, strict=pl_module.strict_loading)


def is_sharded(trainer: Trainer) -> bool:
    """Whether each process holds only a shard of the module, as with FSDP."""
    return trainer.strategy.restore_checkpoint_after_setup


def load_weights(module: LightningModule, checkpoint: Path, datamodule: MixedDomainDataModule | None = None) -> None:
    """Load a stage's weights into ``module``, outside of any Trainer.

    Args:
        module: The module. Layers that it makes in ``setup`` or ``configure_model`` are made first.
        checkpoint: The stage's ``best.ckpt``.
        datamodule: The data, set up, for such layers.
    """
    content = read_checkpoint(checkpoint)
    module.on_load_checkpoint(content)
    if datamodule is not None and not named_as_in(module, content["state_dict"]).keys() <= module.state_dict().keys():
        make_layers(module, datamodule)
    module.load_state_dict(named_as_in(module, content["state_dict"]), strict=module.strict_loading)
