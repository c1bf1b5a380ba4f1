"""Optimizer steps that Lightning does not count, with which no stage could be trained."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.hooks import RemovableHandle

from gradual.errors import InputError


class CountedSteps(Callback):
    """Refuses a module that optimizes by itself with optimizers whose steps Lightning does not count.

    To Lightning the stage would stay at its start, where it saves no checkpoint.
    """

    def __init__(self) -> None:
        self._hooks: list[RemovableHandle] = []
        self._has_stepped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look out for the first step."""
        if not pl_module.automatic_optimization and not trainer.global_step:
            self._hooks = [optimizer.register_step_post_hook(self._stepped) for optimizer in trainer.optimizers]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Check that Lightning has counted it.

        Raises:
            InputError: It has not.
        """
        if self._has_stepped:
            self._remove_hooks()
            self._has_stepped = False
            if not trainer.global_step:
                raise InputError(
                    f"{type(pl_module).__name__} takes optimizer steps that Lightning does not count, so that no "
                    "checkpoint would be saved: call step() on what self.optimizers() returns, without "
                    "use_pl_optimizer=False."
                )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look out no longer."""
        self._remove_hooks()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Look out no longer."""
        self._remove_hooks()

    def _stepped(self, *_: Any) -> None:
        self._has_stepped = True

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
