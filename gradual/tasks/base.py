"""The base class of the tasks' models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, TypeVar

from lightning.pytorch import LightningModule
from torch import Tensor

from gradual.checks import found
from gradual.errors import InputError
from gradual.tasks.scores import SourceLosses, TaskScores

Spec = TypeVar("Spec")
SPLITS = ("train", "val", "test")


class TaskModule(LightningModule):
    """A LightningModule around a pretrained encoder that is told what its data looks like.

    A task is a package with two classes:

    - A data module, a ``MixedDomainDataModule``: ``load`` reads files into datasets and sets ``collate_fn``; ``spec``
      returns what a model must know of them, such as the labels, as a small dataclass.
    - A model, a ``TaskModule``: it receives that spec in ``configure_data``. It never looks for the data module; what
      a step needs of an example, such as the text to write a prediction into, is part of the batch.

    The hooks run in this order, before every fit, validation, test and prediction::

        configure_data(spec)    keep what the spec says; make the metrics with add_scores
        setup(stage)            Lightning's own, rarely needed
        configure_model()       make the layers whose size depends on the spec, unless they exist
        on_load_checkpoint()    only where a checkpoint is loaded

    ``MixedDomainDataModule.setup`` calls ``configure_data``, whichever Trainer method is running. Outside of a Trainer,
    ``datamodule.configure(model)`` followed by ``model.configure_model()`` does the same. Neither hook may use
    ``self.trainer``. A model for a fixed number of labels, as a sketch::

        class TextClassifier(TaskModule):
            def __init__(self, encoder: str, trust_remote_code: bool = False):
                super().__init__()
                self.save_hyperparameters(ignore=["trust_remote_code"])
                self.encoder = load_encoder(encoder, trust_remote_code=trust_remote_code).train()
                self.labels: tuple[str, ...] | None = None
                self.head: nn.Module | None = None

            def configure_data(self, spec):
                labels = self.expect(spec, TextSpec).labels
                if self.labels is None:
                    self.labels = labels
                    self.add_scores(lambda: TextScores(len(labels)))
                elif labels != self.labels:
                    raise InputError("The model was trained with other labels than those in the data.")

            def configure_model(self):
                if self.labels is not None and self.head is None:
                    self.head = nn.Linear(self.encoder.config.hidden_size, len(self.labels))

            def on_save_checkpoint(self, checkpoint):
                checkpoint["labels"] = list(self.labels)

            def on_load_checkpoint(self, checkpoint):
                self.configure_data(TextSpec(tuple(checkpoint["labels"])))
                self.configure_model()

            def training_step(self, batch, batch_idx): ...  # returns the loss, logs train/loss
            def test_step(self, batch, batch_idx): ...      # returns a record per example, for significance tests
            def predict_step(self, batch, batch_idx): ...   # returns a JSON object per example
            def _step(self, batch, split): ...              # updates self.scores_of(split)

    On the command line, the data module's ``tokenizer`` defaults to the model's ``encoder``, and both share
    ``trust_remote_code``. Checkpoints never turn that on: it is not among the saved hyperparameters.
    """

    datamodule_class: ClassVar[str | None] = None
    """The class path of the data module that belongs to the task, which the command line uses where none is given."""
    source_losses: SourceLosses | None
    """The training losses of the pool's named sources; None where there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.source_losses = None

    @abstractmethod
    def configure_data(self, spec: Any) -> None:
        """Take what the data module's ``spec`` says about the data.

        Called before every fit, validation, test and prediction, so often with a spec that is already known. Draws no
        random numbers: layers are made in ``configure_model``.

        Raises:
            InputError: The spec belongs to another task, or differs from what the model was trained with.
        """

    def expect(self, spec: Any, kind: type[Spec]) -> Spec:
        """Return ``spec`` if it is of the kind that this task needs.

        Raises:
            InputError: It is not: the data module belongs to another task.
        """
        if not isinstance(spec, kind):
            raise InputError(
                f"{type(self).__name__} needs a data module whose spec() returns {found(kind)}, but this one returns "
                f"{found(spec)}."
            )
        return spec

    def add_scores(self, make: Callable[[], TaskScores]) -> None:
        """Create the metrics ``train_scores``, ``val_scores`` and ``test_scores``, replacing any there are.

        Args:
            make: Returns a new metric, whose ``compute`` returns scores by name, among them ``loss``. They are logged
                at the end of an epoch as ``val/loss`` and so on.
        """
        for split in SPLITS:
            self.add_module(f"{split}_scores", make())

    def configure_sources(self, names: Sequence[str]) -> None:
        """Log the mean training loss of each source of the pool at the end of an epoch, as ``train/loss/NAME``.

        Called like ``configure_data``, if the pool has named sources. The losses are those that the task adds with
        ``add_source_losses``.

        Args:
            names: ``in-domain`` and the names of the sources, in the order of their numbers in a batch.
        """
        if getattr(self.source_losses, "names", None) != tuple(names):
            self.source_losses = SourceLosses(names)

    def add_source_losses(self, split: str, sums: Tensor, counts: Tensor, source: Tensor | None) -> None:
        """Add the losses of a batch to those of the sources; does nothing outside of training and without sources.

        Args:
            split: The split of the batch.
            sums: The sum of the losses in each of ``n`` examples, shape ``(n,)``.
            counts: The number of these losses, shape ``(n,)``.
            source: The number of each example's source, shape ``(n,)``; None where sources have no names.
        """
        if split == "train" and source is not None and self.source_losses is not None:
            self.source_losses.update(sums, counts, source)

    def scores_of(self, split: str) -> Any:
        """Return the metric of a split: ``train``, ``val`` or ``test``."""
        return getattr(self, f"{split}_scores")

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: Any, *args: Any, trust_remote_code: bool = False, **kwargs: Any
    ) -> Self:
        """Load a model as Lightning does; only the caller, never the checkpoint, decides whether to trust code."""
        trusted = {"trust_remote_code": trust_remote_code, "weights_only": True}
        return super().load_from_checkpoint(checkpoint_path, *args, **{**kwargs, **trusted})

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, *arguments: Any, **named: Any) -> None:
        """Update the weights, and free their gradients; Lightning would keep them during the next forward pass."""
        super().optimizer_step(epoch, batch_idx, optimizer, *arguments, **named)
        self.optimizer_zero_grad(epoch, batch_idx, optimizer)

    def log_loss(self, loss: Tensor) -> None:
        """Log the loss of a training step as ``train/loss``: of several processes, the mean."""
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=1, sync_dist=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the validation scores."""
        self._step(batch, "val")

    def on_train_epoch_end(self) -> None:
        """Log the training scores of the epoch, measured while the weights were changing."""
        self._log_scores("train")
        if self.source_losses is not None and self.source_losses.update_called:
            found = self.source_losses.compute()
            self.log_dict({f"train/loss/{name}": value for name, value in found.items()}, sync_dist=True)
            self.source_losses.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores("test")

    @abstractmethod
    def _step(self, batch: Any, split: str) -> Any:
        """Compute losses and predictions of a batch, and add them to the scores of the split."""

    def _log_scores(self, split: str) -> None:
        metric = self.scores_of(split)
        scores = metric.compute()
        if split == "train":
            del scores["loss"]  # logged at every step
        # the metric has already summed over processes; sync_dist only keeps Lightning from warning
        self.log_dict({f"{split}/{name}": value for name, value in scores.items()}, sync_dist=True)
        metric.reset()
