"""Logged values in checkpoints: Lightning saves none, and a resumed epoch would report averages of its second half."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from gradual.distributed import of_all_processes, rank_and_world_size
from gradual.stage.resume.lightning_internals import (
    epoch_results,
    metrics_reset_by_lightning,
    restore_epoch_results,
    restore_metric,
)


class LoggedValues(Callback):
    """Saves what a stage has logged with each checkpoint, and restores it when the stage resumes.

    Saved are the last value of each metric, which callbacks and learning-rate schedulers use; the sums behind the
    averages of the running epoch; and the module's ``torchmetrics`` that have been updated. A checkpoint that is saved
    during a validation holds the values from before the validation.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None
        self._before_validation: dict[str, Any] | None = None
        self._epoch_is_over = False
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the Trainer, whose values are to be saved."""
        self._trainer = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the restored values in place."""
        if self._restored is None:
            return
        state, self._restored = self._restored, None
        trainer.callback_metrics.update(state["last"])
        metrics = dict(_metrics(pl_module))
        restore_epoch_results(trainer, state["epoch"], metrics)
        for name, saved in state["metrics"].items():
            if name in metrics:
                restore_metric(metrics[name], saved["state"], saved["count"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the sums of this epoch from now on."""
        self._epoch_is_over = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop saving the sums, of which the averages have been made."""
        self._epoch_is_over = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the current values for a checkpoint that is saved during the validation."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._before_validation = self._state(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the values from before the validation."""
        self._before_validation = None

    def state_dict(self) -> dict[str, Any]:
        """The values of all processes."""
        assert self._trainer is not None
        return {"processes": of_all_processes(self._before_validation or self._state(self._trainer))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the values until training starts, when the metrics are on their device."""
        rank, world_size = rank_and_world_size()
        if len(state_dict["processes"]) == world_size:
            self._restored = state_dict["processes"][rank]

    def _state(self, trainer: Trainer) -> dict[str, Any]:
        epoch = {} if self._epoch_is_over else epoch_results(trainer)
        reset = {id(metric) for metric in metrics_reset_by_lightning(trainer)} if self._epoch_is_over else set()
        return {
            "last": {name: _copy(value) for name, value in trainer.callback_metrics.items()},
            "epoch": {
                key: {**result, "state": _copy(result["state"]), "step": _copy(result["step"])}
                for key, result in epoch.items()
            },
            "metrics": {
                name: {"count": metric.update_count, "state": _copy(metric.metric_state)}
                for name, metric in _metrics(trainer.lightning_module)
                if metric.update_called and id(metric) not in reset
            },
        }


def _metrics(module: LightningModule) -> Iterator[tuple[str, Metric]]:
    return ((name, part) for name, part in module.named_modules() if isinstance(part, Metric))


def _copy(value: Any) -> Any:
    """Copy to the CPU, in types that can be loaded without running code."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {name: _copy(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_copy(part) for part in value]
    return value if value is None else torch.as_tensor(value)
