"""What the tasks' LightningModules share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric


class TaskModule(LightningModule):
    """A LightningModule around a pretrained encoder, with a metric of its scores for each split.

    Its checkpoints run no code and turn on none of the encoder's: ``__init__`` takes ``trust_remote_code``, and leaves
    it out of the hyperparameters that it saves. ``train_scores``, ``val_scores`` and ``test_scores`` are metrics that
    give several scores by name, one of them the ``loss``; their epoch's values are logged, as ``val/loss`` and so on.
    """

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: Any, *args: Any, trust_remote_code: bool = False, **kwargs: Any
    ) -> Self:
        """As Lightning's; what a checkpoint says about trusting code does not count, wherever the file comes from."""
        trusted = {"trust_remote_code": trust_remote_code, "weights_only": True}
        return super().load_from_checkpoint(checkpoint_path, *args, **{**kwargs, **trusted})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the validation scores."""
        self._step(batch, "val")

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training scores, measured while the weights moved."""
        self._log_scores("train")

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores("test")

    def scores_of(self, split: str) -> Any:
        """The metric of a split: ``train``, ``val`` or ``test``."""
        return getattr(self, f"{split}_scores")

    @abstractmethod
    def _step(self, batch: Any, split: str) -> Any:
        """The losses of a batch and what is predicted; adds them to the split's scores."""

    def _log_scores(self, split: str) -> None:
        metric = self.scores_of(split)
        scores = metric.compute()
        if split == "train":
            del scores["loss"]  # logged at every step
        # the metric has summed over processes already; synchronizing equal values only keeps Lightning from warning
        self.log_dict({f"{split}/{name}": value for name, value in scores.items()}, sync_dist=True)
        metric.reset()


_WITHOUT_DOUBLE = ("mps",)  # types of devices


class TaskScores(Metric):
    """Scores made of sums. Those of real numbers are in double, whatever type the module is converted to.

    On a device that has no double they are in single precision.
    """

    full_state_update = False

    def add_count(self, name: str, *size: int) -> None:
        """Add a state that counts, of a shape; it is summed over processes."""
        self.add_state(name, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def add_sum(self, name: str, *size: int) -> None:
        """Add a state that sums real numbers, of a shape; it is summed over processes."""
        self.add_state(name, _exact(torch.zeros(size)), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> nn.Module:
        sums = [name for name, start in self._defaults.items() if start.is_floating_point()]  # type: ignore[union-attr]
        super()._apply(fn, [*exclude_state, *sums])
        for name in sums:
            self._defaults[name] = _exact(self._defaults[name], self.device)  # type: ignore[arg-type]
            setattr(self, name, _exact(getattr(self, name), self.device))
        return self


def _exact(sums: Tensor, device: torch.device | None = None) -> Tensor:
    """Sums on a device, theirs if none is given, in the most exact type that it has."""
    device = device or sums.device
    return sums.to(device, torch.float32 if device.type in _WITHOUT_DOUBLE else torch.float64)
