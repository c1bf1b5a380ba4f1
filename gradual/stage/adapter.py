"""What becomes of a model's adapter from stage to stage: the setting ``adapter``."""

from __future__ import annotations

from typing import Protocol

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import Strategy

from gradual.errors import InputError
from gradual.settings import StageOverrides


class Adapter(Protocol):
    """What a model has as its attribute ``adapter`` so that stages may merge it.

    The adapters that were merged are part of what the model's ``on_save_checkpoint`` saves.
    """

    def check_merge(self) -> None:
        """Check that the adapter can be merged; called before any stage trains.

        Raises:
            InputError: It cannot.
        """

    def merge(self, seed: int) -> None:
        """Merge the adapter into the weights under it and begin a new one, drawn from ``seed``.

        Called when a stage has loaded its starting weights. Parameters change in place, since the optimizer has them.
        """


def adapter_of(model: LightningModule) -> Adapter | None:
    """The adapter of a model; None if it has none."""
    adapter: Adapter | None = getattr(model, "adapter", None)
    return adapter


def check_adapter(model: LightningModule, stage: StageOverrides, strategy: Strategy) -> None:
    """Check that a stage's setting ``adapter`` suits the model.

    Raises:
        InputError: The model has no adapter, or it cannot be merged, perhaps because the strategy divides the weights.
    """
    if stage.adapter is None:
        return
    adapter = adapter_of(model)
    if adapter is None:
        name = type(getattr(model, "_orig_mod", model)).__name__
        raise InputError(f"adapter is '{stage.adapter}', but this {name} has no adapter: set lora, or remove adapter.")
    if stage.adapter == "merge":
        if strategy.restore_checkpoint_after_setup:
            raise InputError(
                f"adapter: merge needs the whole weights under the adapter, which {type(strategy).__name__} divides: "
                "use adapter: continue."
            )
        adapter.check_merge()
