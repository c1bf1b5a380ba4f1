"""What a callback asks of a Trainer, for tests that call its hooks one by one."""

from types import SimpleNamespace
from typing import Any


def stand_in_trainer(**changes: Any) -> Any:
    """The attributes of a Trainer of one process in the first epoch of a fit, with some of them changed."""
    attributes = {
        "state": SimpleNamespace(fn="fit"),
        "sanity_checking": False,
        "training": True,
        "current_epoch": 0,
        "global_step": 0,
        "max_epochs": 4,
        "num_training_batches": 2,
        "callback_metrics": {},
        "optimizers": [],
        "global_rank": 0,
        "world_size": 1,
        "is_global_zero": True,
        "strategy": SimpleNamespace(barrier=lambda: None),
        "val_dataloaders": None,
        "test_dataloaders": None,
        "predict_dataloaders": None,
        "_logger_connector": SimpleNamespace(epoch_end_reached=lambda: None, on_epoch_end=lambda: None),
    }
    return SimpleNamespace(**(attributes | changes))
