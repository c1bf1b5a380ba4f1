"""The LightningModule of event extraction: losses, scores and predictions of ``Dygie``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from gradual.checks import integer, number
from gradual.distributed import mean_over_processes
from gradual.errors import InputError
from gradual.nn.encoder import load_encoder
from gradual.tasks.base import TaskModule
from gradual.tasks.events.batch import SentenceBatch
from gradual.tasks.events.labels import EventSpec, LabelSpace
from gradual.tasks.events.loss import (
    Head,
    LossWeights,
    Predictions,
    annotated,
    as_annotations,
    decode,
    heads,
    loss_of,
)
from gradual.tasks.events.metrics import ExtractionScores, document_scores
from gradual.tasks.events.model import Dygie
from gradual.tasks.events.predictions import predicted_records


class EventExtractor(TaskModule):
    """Event extraction with DyGIE++ (Wadden et al., 2019), on the data of an ``EventDataModule``.

    Logs ``loss`` and precision, recall and F1 of ``trig_id`` (the trigger's position is right), ``trig_c`` (and its
    event type), ``arg_id`` (an argument's span and event type), ``arg_c`` (and its role), ``ner`` and ``relation``, for
    ``train``, ``val`` and ``test``. The loss is summed within a document, as in the reference implementation, and
    averaged over documents.

    Args:
        encoder: A pretrained encoder for ``transformers``: a folder, or a name on the Hugging Face Hub.
        encoder_layers: Number of encoder layers to keep, from the first; None for all.
        hidden: Width of the two hidden layers of each scorer.
        features: Width of the embeddings of span widths and of distances.
        dropout: Dropout rate in the scorers.
        loss_weights: Factors on the parts of the loss.
        trust_remote_code: Run Python code that comes with the encoder, from its folder or the Hub. If off, such
            encoders are refused.
    """

    datamodule_class = "gradual.tasks.events.EventDataModule"

    def __init__(
        self,
        encoder: str,
        encoder_layers: int | None = None,
        hidden: int = 150,
        features: int = 20,
        dropout: float = 0.4,
        loss_weights: LossWeights | dict[str, Any] | None = None,
        trust_remote_code: bool = False,
    ):
        super().__init__()
        for name, value in (("hidden", hidden), ("features", features)):
            integer(1).check(name, value)
        number(0, below=1).check("dropout", dropout)
        self.loss_weights = LossWeights.of(loss_weights)
        self.save_hyperparameters(ignore=["loss_weights", "trust_remote_code"])
        self.save_hyperparameters({"loss_weights": asdict(self.loss_weights)})
        # transformers loads encoders in evaluation mode, and Lightning trains modules in the mode it finds them in
        pretrained = load_encoder(encoder, encoder_layers, trust_remote_code)
        self.model = Dygie(pretrained, features, hidden, dropout).train()
        self.labels: LabelSpace | None = None
        self.allowed: dict[str, Tensor] = {}

    def configure_data(self, spec: Any) -> None:
        """Take the label space, or check that it is the one the model was trained with."""
        spec = self.expect(spec, EventSpec)
        if self.labels is None:
            self.labels, self.max_span_width = spec.labels, spec.max_span_width
        elif spec.labels != self.labels or spec.max_span_width != self.max_span_width:
            raise InputError(_mismatch(self.labels, spec.labels, self.max_span_width, spec.max_span_width))
        self.allowed = {kind: torch.tensor(rows) for kind, rows in spec.allowed.items()}

    def configure_model(self) -> None:
        """Make the scorers, once the labels are known."""
        if self.labels is not None and not self.model.scorers:
            self._add_scorers(self.labels, self.loss_weights.layers)

    def _add_scorers(self, labels: LabelSpace, layers: Sequence[str]) -> None:
        self.model.add_scorers(labels, self.max_span_width, layers)
        self.model.to(self.device)
        if not self.model.scorers:
            raise InputError("There is nothing to learn: the data has no labels in any layer with a loss weight.")
        self.add_scores(lambda: ExtractionScores(self._layers()))

    def _layers(self) -> list[str]:
        scorers = {"ner": "ner", "relations": "relations", "events": "triggers"}
        return [layer for layer, scorer in scorers.items() if scorer in self.model.scorers]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the label space, which decides the shapes of the weights."""
        assert self.labels is not None
        checkpoint["labels"], checkpoint["max_span_width"] = self.labels.to_dict(), self.max_span_width
        checkpoint["layers"] = self._layers()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the scorers for the labels of the checkpoint, unless they exist.

        Raises:
            InputError: The data has other labels than the checkpoint, or the checkpoint has none.
        """
        try:
            labels, width = LabelSpace.from_dict(checkpoint["labels"]), int(checkpoint["max_span_width"])
            layers = list(checkpoint["layers"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError("The checkpoint has no label space: it must come from an EventExtractor.") from None
        if self.labels is None:
            self.labels, self.max_span_width = labels, width
        elif labels != self.labels or width != self.max_span_width:
            raise InputError(_mismatch(labels, self.labels, width, self.max_span_width))
        if not self.model.scorers:
            self._add_scorers(labels, layers)

    def forward(self, batch: SentenceBatch) -> dict[str, Head]:
        """Return the scorers' logits by name."""
        allowed = {kind: rows.to(self.device) for kind, rows in self.allowed.items()}
        return {head.name: head for head in heads(self.model(batch), batch, allowed)}

    def training_step(self, batch: SentenceBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch: the sum within each document, averaged over documents."""
        total, _ = self._step(batch, "train")
        # averaged over processes, this loss is that of all their documents in one batch
        loss = total / mean_over_processes(total.new_tensor(len(batch.ids)))
        self.log_loss(loss)
        return loss

    def test_step(self, batch: SentenceBatch, batch_idx: int) -> Any:
        """Add a batch to the test scores, and return the scores of each document."""
        _, predicted = self._step(batch, "test")
        found = annotated(as_annotations(predicted, batch), batch)
        return document_scores(found, annotated(batch.gold, batch), batch.document, batch.ids, self._layers())

    def predict_step(self, batch: SentenceBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the documents with their predictions, in DyGIE's format."""
        assert self.labels is not None
        return predicted_records(decode(self(batch), batch), batch, self.labels, self._layers())

    def _step(self, batch: SentenceBatch, split: str) -> tuple[Tensor, dict[str, Predictions]]:
        """Return the loss summed over documents, and the predictions."""
        found = self(batch)
        parts = {name: loss_of(head, batch) for name, head in found.items()}
        total = self._total(parts)
        predicted = decode(found, batch)
        gold = annotated(batch.gold, batch)
        self.scores_of(split).update(
            annotated(as_annotations(predicted, batch), batch), gold, total.detach(), len(batch.ids)
        )
        return total, predicted

    def _total(self, parts: dict[str, Tensor]) -> Tensor:
        weights = self.loss_weights
        factors = {
            "ner": weights.ner,
            "relations": weights.relations,
            "triggers": weights.events * weights.triggers,
            "arguments": weights.events * weights.arguments,
        }
        return torch.stack([factors[name] * part for name, part in parts.items()]).sum()


def _mismatch(model: LabelSpace, data: LabelSpace, width: int, data_width: int) -> str:
    if width != data_width:
        return f"The model was trained with max_span_width {width}, but the data module has {data_width}."
    differences: Sequence[tuple[str, dict[str, list[str]]]] = (
        ("the data", model.difference(data)),
        ("the model", data.difference(model)),
    )
    found = "; ".join(
        f"only {who} has {kind} {', '.join(labels)}"
        for who, difference in differences
        for kind, labels in difference.items()
    )
    return f"The model was trained with other labels than those in the data files: {found}."
