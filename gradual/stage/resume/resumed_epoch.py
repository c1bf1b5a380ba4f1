"""The start of a resumed epoch, for which Lightning does not call ``on_train_epoch_start`` again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from gradual.stage.resume.lightning_internals import call_module_hook


class ResumedEpoch(Callback):
    """Begins a resumed epoch again for the module and for ``GradientAccumulationScheduler``, which keep no state of it.

    A module may set attributes in ``on_train_epoch_start``, such as a temperature that depends on the epoch. So this
    hook is called again, after ``on_train_start``. What checkpoints hold stays as it was restored: weights, buffers,
    the optimizers' rates and the schedules. Random states and logged values are restored by the callbacks after this
    one, so that ``on_train_start`` may draw random numbers, too. Other callbacks have states of their own.
    """

    def __init__(self) -> None:
        self._module: LightningModule | None = None
        self._patched: Any = None  # the hook, if it is one that a program has put on the object

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Call the hooks of the module, and set the number of batches to accumulate."""
        call_module_hook(trainer, "on_train_start")
        self._skip_once(pl_module)
        if not trainer.fit_loop.restarted_mid_epoch:
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # a list of the Trainer
            if isinstance(callback, GradientAccumulationScheduler):
                callback.on_train_epoch_start(trainer, pl_module)
        if is_overridden("on_train_epoch_start", pl_module):
            with _unchanged(trainer, pl_module):
                call_module_hook(trainer, "on_train_epoch_start")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the module its hook back, should Lightning not have called it."""
        self._give_back()

    def _skip_once(self, module: LightningModule) -> None:
        """Replace the module's ``on_train_start``, which has been called, until Lightning calls it."""
        self._module, self._patched = module, vars(module).get("on_train_start")
        module.on_train_start = self._give_back  # type: ignore[method-assign]

    def _give_back(self) -> None:
        if self._module is not None:
            del self._module.on_train_start
            if self._patched is not None:
                self._module.on_train_start = self._patched  # type: ignore[method-assign]
        self._module = self._patched = None


@contextmanager
def _unchanged(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Put back at its end what checkpoints hold of a module, its optimizers' groups, and their schedulers."""
    tensors = {name: value.detach().to("cpu", copy=True) for name, value in _tensors(module).items()}
    groups = [
        [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
        for optimizer in trainer.optimizers
    ]
    schedules = [copy.deepcopy(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs]
    yield
    with torch.no_grad():
        for name, value in _tensors(module).items():
            if name in tensors and value.shape == tensors[name].shape:
                value.copy_(tensors[name])
    for optimizer, saved in zip(trainer.optimizers, groups):
        for group, values in zip(optimizer.param_groups, saved):
            group.update(values)
    for config, state in zip(trainer.lr_scheduler_configs, schedules):
        config.scheduler.load_state_dict(state)


def _tensors(module: LightningModule) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
