"""What the tasks' LightningModules share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from lightning.pytorch import LightningModule


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
