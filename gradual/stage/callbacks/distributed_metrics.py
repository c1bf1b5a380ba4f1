"""Scores of all processes together: what an evaluation logs is as if one process had done it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size
from torchmetrics import Metric

from gradual.data.loader import is_borrowed
from gradual.distributed import rank_and_world_size


class DistributedMetrics(Callback):
    """Makes validation and test scores those of all processes, whatever module logs them.

    Numbers that a module logs are averaged over the examples of all processes, weighted by their number: Lightning does
    so only where the module says ``sync_dist=True``, and then rounds the mean batch size down to a whole number. What a
    borrowed batch logs, and what it adds to torchmetrics, is taken out again. Only what a module collects by itself, in
    lists of its own, is out of reach.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._borrowed = False
        self._before: list[tuple[Metric, dict[str, Any]]] = []

    def _start(self, pl_module: LightningModule) -> None:
        if rank_and_world_size()[1] == 1:
            return
        log = pl_module.log

        def log_whole(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            if isinstance(value, Metric) or kwargs.get(
                "rank_zero_only"
            ):  # sums over processes by itself, or not at all
                return log(name, value, *args, **kwargs)
            kwargs["sync_dist"] = True
            reduction = getattr(kwargs.get("reduce_fx", "mean"), "__name__", kwargs.get("reduce_fx", "mean"))
            size = kwargs.get("batch_size")
            if size is None and reduction == "mean" and kwargs.get("on_epoch") is not False:
                size = 1 if self._batch is None else extract_batch_size(self._batch)
            if self._borrowed and reduction not in ("min", "max"):  # to which a repeated value makes no difference
                size, value = 0, torch.zeros_like(torch.as_tensor(value, dtype=torch.get_default_dtype()))
            if size is not None:
                kwargs["batch_size"] = float(size)  # Lightning averages whole numbers to whole numbers
            return log(name, value, *args, **kwargs)

        pl_module.log = log_whole  # type: ignore[method-assign]

    def _start_batch(self, pl_module: LightningModule, batch: Any, borrowed: bool) -> None:
        self._batch, self._borrowed = batch, borrowed
        if borrowed:
            metrics = [module for module in pl_module.modules() if isinstance(module, Metric)]
            self._before = [(metric, copy.deepcopy(metric.metric_state)) for metric in metrics]

    def _end_batch(self) -> None:
        for metric, state in self._before:
            for name, value in state.items():
                setattr(metric, name, value)
        self._batch, self._borrowed, self._before = None, False, []

    def _end(self, pl_module: LightningModule) -> None:
        vars(pl_module).pop("log", None)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log for all processes from here on."""
        self._start(pl_module)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the batch and, before a borrowed one, the metrics."""
        self._start_batch(pl_module, batch, is_borrowed(trainer.val_dataloaders, batch_idx))

    def on_validation_batch_end(self, *args: Any) -> None:
        """Take a borrowed batch out again."""
        self._end_batch()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log as the module says again."""
        self._end(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log for all processes from here on."""
        self._start(pl_module)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the batch and, before a borrowed one, the metrics."""
        self._start_batch(pl_module, batch, is_borrowed(trainer.test_dataloaders, batch_idx))

    def on_test_batch_end(self, *args: Any) -> None:
        """Take a borrowed batch out again."""
        self._end_batch()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log as the module says again."""
        self._end(pl_module)
