"""A Trainer that says nothing and writes nothing, for what tests of tasks do outside of a run."""

from lightning.pytorch import Trainer


def quiet_trainer(**arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", **quiet, **{"enable_checkpointing": False, **arguments})
