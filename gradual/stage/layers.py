"""Layers whose size depends on the data, made before any stage trains."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from gradual.data.module import MixedDomainDataModule
from gradual.stage.preflight import lightning_refusals


def make_layers(model: LightningModule, datamodule: MixedDomainDataModule) -> None:
    """Have ``model`` make the layers that depend on the data, unless they exist.

    A model with ``configure_data`` receives the data module's spec and makes them in ``configure_model``. Other models
    may look for the data in their Trainer, so Lightning sets them up: a Trainer validates them on no batches.
    """
    if hasattr(model, "configure_data"):
        datamodule.configure(model)
        model.configure_model()
    elif any(is_overridden(hook, model) for hook in ("setup", "configure_model")):
        trainer = Trainer(
            accelerator="cpu",
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            with lightning_refusals(lambda: "The model"):
                trainer.validate(model, datamodule=datamodule, verbose=False)
        finally:
            model.trainer = datamodule.trainer = None
