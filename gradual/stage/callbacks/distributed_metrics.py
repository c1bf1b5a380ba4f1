"""Scores over all processes: an evaluation logs what a single process would."""

from __future__ import annotations

import copy
from functools import partial
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size
from torchmetrics import Metric

from gradual.data.loader import is_borrowed
from gradual.distributed import of_all_processes, rank_and_world_size
from gradual.stage.resume.lightning_internals import (
    before_computing,
    compute_as_before,
    results_to_compute,
    share_result,
    unshare_result,
)


class DistributedMetrics(Callback):
    """Computes validation and test scores over all processes, for any module.

    Logged numbers are averaged over the examples of all processes, also those that only some processes log. Lightning
    averages them only if the module passes ``sync_dist=True``, then rounds the mean batch size down to an integer, and
    needs the same names in the same order in every process. What borrowed batches contribute is
    removed again, also from ``torchmetrics``; they repeat examples so that all processes have as many batches. Lists
    that a module collects itself are not corrected.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._borrowed = False
        self._before: list[tuple[Metric, dict[str, Any]]] = []
        self._shared: dict[str, bool] = {}

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if rank_and_world_size()[1] == 1:
            return
        before_computing(trainer, partial(self._share, trainer))
        log = pl_module.log

        def log_whole(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            if isinstance(value, Metric) or kwargs.get("rank_zero_only"):  # synchronizes itself, or is not to be
                return log(name, value, *args, **kwargs)
            reduction = getattr(kwargs.get("reduce_fx", "mean"), "__name__", kwargs.get("reduce_fx", "mean"))
            size = kwargs.get("batch_size")
            if size is None and reduction == "mean" and kwargs.get("on_epoch") is not False:
                size = 1 if self._batch is None else extract_batch_size(self._batch)
            if self._borrowed and reduction not in ("min", "max"):  # which a repeated value does not change
                size, value = 0, torch.zeros_like(torch.as_tensor(value, dtype=torch.get_default_dtype()))
            if size is not None:
                kwargs["batch_size"] = float(size)  # Lightning rounds the mean of integers to an integer
            return log(name, value, *args, **kwargs)

        pl_module.log = log_whole  # type: ignore[method-assign]

    def _share(self, trainer: Trainer) -> None:
        """Let all processes compute the same values in the same order, whichever of them has logged a value."""
        everyone = of_all_processes(results_to_compute(trainer, self._shared))
        for key in dict.fromkeys(chain.from_iterable(everyone)):
            described = [each[key] for each in everyone if key in each]
            self._shared[key] = share_result(trainer, key, described)

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

    def _end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if vars(pl_module).pop("log", None) is None:  # there is one process
            return
        for key, asked in self._shared.items():
            unshare_result(trainer, key, asked)
        self._shared = {}
        compute_as_before(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log for all processes from now on."""
        self._start(trainer, pl_module)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Remember the batch and, if it is borrowed, the state of the metrics."""
        self._start_batch(pl_module, batch, is_borrowed(trainer.val_dataloaders, batch_idx))

    def on_validation_batch_end(self, *args: Any) -> None:
        """Remove a borrowed batch from the metrics."""
        self._end_batch()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log as the module does again."""
        self._end(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log for all processes from now on."""
        self._start(trainer, pl_module)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Remember the batch and, if it is borrowed, the state of the metrics."""
        self._start_batch(pl_module, batch, is_borrowed(trainer.test_dataloaders, batch_idx))

    def on_test_batch_end(self, *args: Any) -> None:
        """Remove a borrowed batch from the metrics."""
        self._end_batch()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log as the module does again."""
        self._end(trainer, pl_module)
