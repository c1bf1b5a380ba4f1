"""What was logged so far, in checkpoints: Lightning saves none of it, and a resumed epoch would report half."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync
from torch import Tensor
from torchmetrics import Metric

from gradual.distributed import of_all_processes, rank_and_world_size

_PLAIN = [field.name for field in fields(_Metadata) if field.name not in ("reduce_fx", "_sync")]


class LoggedValues(Callback):
    """Saves what a stage has logged with each checkpoint, and restores it on resuming.

    That is the last value of each metric, on which callbacks and schedulers decide; the sums from which the averages
    over an epoch in progress are made; and the module's own ``torchmetrics`` that hold something. In a validation it is
    what there was before it.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None
        self._before_validation: dict[str, Any] | None = None
        self._epoch_is_over = False
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learn whose values these are."""
        self._trainer = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the restored values in place."""
        if self._restored is None:
            return
        state, self._restored = self._restored, None
        trainer.callback_metrics.update(state["last"])
        metrics = dict(_metrics(pl_module))
        if state["epoch"]:
            results = trainer.fit_loop.epoch_loop._results
            for key, saved in state["epoch"].items():
                results[key] = _to_result(saved, trainer, metrics)
            trainer._logger_connector._first_loop_iter = False  # else the first batch would start them anew
        for name, saved in state["metrics"].items():
            if name in metrics:
                _set_state(metrics[name], saved)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Its sums are to be saved from here on."""
        self._epoch_is_over = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Its sums have become averages."""
        self._epoch_is_over = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what there is, for a checkpoint inside the validation."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._before_validation = self._state(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The validation counts from here on."""
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
        results = trainer.fit_loop.epoch_loop._results
        current = {} if self._epoch_is_over else {key: value for key, value in results.items() if not value.has_reset}
        reset_by_lightning = {id(value.value) for value in results.values() if not value.is_tensor}
        return {
            "last": {name: _copy(value) for name, value in trainer.callback_metrics.items()},
            "epoch": {key: _from_result(value) for key, value in current.items()},
            "metrics": {
                name: {"count": metric.update_count, "state": _copy(metric.metric_state)}
                for name, metric in _metrics(trainer.lightning_module)
                if metric.update_called and not (self._epoch_is_over and id(metric) in reset_by_lightning)
            },
        }


def _metrics(module: LightningModule) -> Iterator[tuple[str, Metric]]:
    return ((name, part) for name, part in module.named_modules() if isinstance(part, Metric))


def _from_result(result: _ResultMetric) -> dict[str, Any]:
    meta = {name: getattr(result.meta, name) for name in _PLAIN}
    sync = {"should": result.meta.sync.should, "rank_zero_only": result.meta.sync.rank_zero_only}
    return {
        "meta": {**meta, "reduce_fx": result.meta.reduce_fx.__name__},
        "sync": sync,
        "is_tensor": result.is_tensor,  # else the sums are those of a metric of the module
        "count": result._update_count,
        "state": _copy(result.metric_state) if result.is_tensor else {},
        "step": _copy(result._forward_cache),
    }


def _to_result(saved: dict[str, Any], trainer: Trainer, metrics: Mapping[str, Metric]) -> _ResultMetric:
    meta = _Metadata(**saved["meta"])
    meta.sync = _Sync(trainer.strategy.reduce, saved["sync"]["should"], saved["sync"]["rank_zero_only"])
    result = _ResultMetric(meta, saved["is_tensor"]).to(trainer.strategy.root_device)
    if not result.is_tensor:
        result.value = metrics[str(meta.metric_attribute)]
    _set_state(result, saved)
    if saved["step"] is not None:
        result._forward_cache = saved["step"].to(trainer.strategy.root_device)
    return result


def _set_state(metric: Metric, saved: dict[str, Any]) -> None:
    for name, value in saved["state"].items():
        current = getattr(metric, name)
        if isinstance(value, list):
            setattr(metric, name, [part.to(metric.device) for part in value])
        else:
            setattr(metric, name, value.to(current))  # its type, too: not every device has doubles
    metric._update_count = saved["count"]
    metric._computed = None


def _copy(value: Any) -> Any:
    """A copy on the CPU, in types that load without running code."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {name: _copy(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_copy(part) for part in value]
    return value if value is None else torch.as_tensor(value)
