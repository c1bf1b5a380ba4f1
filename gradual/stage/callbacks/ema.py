"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gradual.nn.frozen import saved_parameters


class EMAWeights(Callback):
    """Validates and saves an exponential moving average of a stage's weights, from which the next stage starts.

    The average replaces the weights from the start of a validation to the end of the epoch, so that the checkpoint of
    the best epoch holds the weights that were validated. Training continues with the weights themselves. (Lightning's
    own callback saves the average in full checkpoints only, not in those that hold only weights.) Parameters that
    checkpoints leave out are never trained, and have no average.

    The average has at least single precision, whatever the weights have: in bfloat16, a thousandth of a step would be
    rounded away.

    Args:
        decay: The factor by which each step multiplies the previous average, e.g. 0.999.
    """

    def __init__(self, decay: float):
        self._update: Callable[..., Any] = get_ema_multi_avg_fn(decay)
        self._average: list[Tensor] | None = None
        self._training: list[Tensor] | None = None
        self._parameters: list[nn.Parameter] = []
        self._steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the initial weights, or continue with the restored average."""
        self._steps = trainer.global_step
        self._parameters = saved_parameters(pl_module)
        if self._average is None:
            self._average = [p.detach().to(_precision(p), copy=True) for p in self._parameters]
        else:  # earlier versions saved it in the weights' precision
            self._average = [a.to(p.device, _precision(p)) for a, p in zip(self._average, self._parameters)]
        if self._training is not None:
            self._training = [weights.to(p.device) for weights, p in zip(self._training, self._parameters)]
            self._leave()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Restore the weights themselves after a validation within an epoch."""
        self._leave()

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Update the average after each optimizer step."""
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        self._update(self._average, [p.detach().to(_precision(p)) for p in self._parameters], None)

    @torch.no_grad()
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the weights by the average."""
        if self._average is None or self._training is not None or trainer.sanity_checking:
            return
        parameters = [parameter.detach() for parameter in self._parameters]
        self._training = [parameter.clone() for parameter in parameters]
        torch._foreach_copy_(parameters, self._average)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the weights themselves before the checkpoint to resume from is written."""
        self._leave()

    @torch.no_grad()
    def _leave(self) -> None:
        if self._training is not None:
            torch._foreach_copy_([parameter.detach() for parameter in self._parameters], self._training)
            self._training = None

    def state_dict(self) -> dict[str, Any]:
        """The average and, while it replaces them, the weights."""
        return {"average": self._average, "training": self._training}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        self._average, self._training = state_dict["average"], state_dict.get("training")


def _precision(parameter: nn.Parameter) -> torch.dtype:
    """The type of a parameter's average."""
    return torch.promote_types(parameter.dtype, torch.float32)
