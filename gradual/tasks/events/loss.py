"""Losses and predictions of the four scorers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradual.checks import check_fields, found, number
from gradual.config_dataclasses import from_mapping
from gradual.errors import InputError
from gradual.tasks.events.batch import SentenceBatch
from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.metrics import Annotations
from gradual.tasks.events.model import Scores


@dataclass(frozen=True)
class LossWeights:
    """Factors on the parts of the loss. Layers with weight 0 are neither trained nor scored.

    Attributes:
        ner: Entities.
        relations: Relations.
        events: Triggers and arguments together.
        triggers: Triggers, within the loss of events.
        arguments: Arguments, within the loss of events.
    """

    ner: float = 0.5
    relations: float = 0.5
    events: float = 1.0
    triggers: float = 0.2
    arguments: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "loss_weights.{}", **{name: number(0) for name in vars(self)})

    @classmethod
    def of(cls, given: LossWeights | Mapping[str, Any] | None) -> LossWeights:
        """The weights that a mapping describes, as checkpoints and configurations have it; None for the defaults.

        Raises:
            InputError: A name or a weight is wrong.
        """
        if isinstance(given, Mapping):
            given = from_mapping(cls, given, "loss_weights")
        if given is not None and not isinstance(given, cls):
            raise InputError(f"loss_weights is {found(given)}: it must be a mapping of weights, such as {{ner: 0.5}}.")
        return given or cls()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are trained."""
        return tuple(layer for layer in LAYERS if getattr(self, layer))


@dataclass
class Head:
    """The logits of one scorer and the correct classes: what losses and predictions are computed from.

    Attributes:
        name: ``ner``, ``triggers``, ``arguments`` or ``relations``.
        kind: The kind of its labels in the label space.
        layer: The annotation layer that it belongs to.
        logits: One row per item, with the null class first; ``-inf`` for classes outside the sentence's schema.
        labels: 0 for none, else 1 + label.
        sentence: The sentence of each row.
        places: The spans, tokens or pairs that the rows are about, as in ``Scores``.
    """

    name: str
    kind: str
    layer: str
    logits: Tensor
    labels: Tensor
    sentence: Tensor
    places: tuple[Tensor, ...]


def heads(scores: Scores, batch: SentenceBatch, allowed: dict[str, Tensor]) -> Iterator[Head]:
    """Yield a head for each scorer that the model has.

    Args:
        scores: The output of the model.
        batch: The batch that it belongs to.
        allowed: For each kind of label, which labels each schema allows, shape ``(schemas, labels)``; empty if all
            schemas allow all labels.
    """
    spans = len(batch.span_start)
    span_sentence = batch.token_sentence[batch.span_start]

    def head(
        name: str, kind: str, layer: str, scores: Tensor, labels: Tensor, sentence: Tensor, *places: Tensor
    ) -> Head:
        logits = F.pad(scores.float(), (1, 0))
        if kind in allowed:
            logits = logits.masked_fill(~F.pad(allowed[kind], (1, 0), value=True)[batch.schema[sentence]], -torch.inf)
        return Head(name, kind, layer, logits, labels, sentence, places)

    if scores.ner is not None:
        every = torch.arange(spans, device=span_sentence.device)
        yield head("ner", "ner", "ner", scores.ner, batch.ner_labels, span_sentence, every)
    if scores.triggers is not None:
        sentence = batch.token_sentence
        every = torch.arange(len(sentence), device=sentence.device)
        yield head("triggers", "triggers", "events", scores.triggers, batch.trigger_labels, sentence, every)
    if scores.arguments is not None and scores.argument_pairs is not None:
        token, span = scores.argument_pairs
        labels = _look_up(token * spans + span, batch.argument_labels)
        sentence = batch.token_sentence[token]
        yield head("arguments", "roles", "events", scores.arguments, labels, sentence, token, span)
    if scores.relations is not None and scores.relation_pairs is not None:
        first, second = scores.relation_pairs
        labels = _look_up(first * spans + second, batch.relation_labels)
        yield head("relations", "relations", "relations", scores.relations, labels, span_sentence[first], first, second)


def loss_of(head: Head, batch: SentenceBatch) -> Tensor:
    """Sum the cross-entropy over rows, weighted by document; rows in layers without annotation do not count."""
    weights = batch.weights[:, LAYERS.index(head.layer)]
    return (F.cross_entropy(head.logits, head.labels, reduction="none") * weights[head.sentence]).sum()


@dataclass
class Predictions:
    """The rows of a head whose best class is not the null class.

    Attributes:
        places: The spans, tokens or pairs that they are about.
        label: The predicted label, counted from 0.
        logit: Its logit.
        probability: Its softmax probability.
    """

    places: tuple[Tensor, ...]
    label: Tensor
    logit: Tensor
    probability: Tensor


def decode(found: dict[str, Head], batch: SentenceBatch) -> dict[str, Predictions]:
    """Return the predictions of the heads by name; arguments need a token that is predicted as a trigger."""
    decoded = {}
    for name, head in found.items():
        best = head.logits.argmax(-1)
        real = best > 0
        if name == "arguments":
            real &= found["triggers"].logits.argmax(-1)[head.places[0]] > 0
        rows = real.nonzero().flatten()
        logit, label = head.logits[rows], best[rows]
        probability = logit.softmax(-1).gather(1, label[:, None]).flatten()
        decoded[name] = Predictions(
            tuple(place[rows] for place in head.places),
            label - 1,
            logit.gather(1, label[:, None]).flatten(),
            probability,
        )
    return decoded


def as_annotations(decoded: dict[str, Predictions], batch: SentenceBatch) -> Annotations:
    """Convert predictions to rows with indices that count from the start of a sentence, for scoring."""
    position, sentence = batch.token_position, batch.token_sentence

    def span(spans: Tensor) -> tuple[Tensor, Tensor]:
        return position[batch.span_start[spans]], position[batch.span_end[spans]]

    def rows(*columns: Tensor) -> Tensor:
        return torch.stack(columns, 1)

    empty = position.new_zeros
    found = Annotations(empty(0, 4), empty(0, 6), empty(0, 3), empty(0, 6))
    if "ner" in decoded:
        (spans,) = decoded["ner"].places
        found.ner = rows(sentence[batch.span_start[spans]], *span(spans), decoded["ner"].label)
    if "relations" in decoded:
        first, second = decoded["relations"].places
        found.relations = rows(
            sentence[batch.span_start[first]], *span(first), *span(second), decoded["relations"].label
        )
    if "triggers" in decoded:
        (tokens,) = decoded["triggers"].places
        found.triggers = rows(sentence[tokens], position[tokens], decoded["triggers"].label)
    if "arguments" in decoded:
        token, spans = decoded["arguments"].places
        event_type = torch.zeros_like(sentence).index_put((tokens,), decoded["triggers"].label)[token]
        found.arguments = rows(sentence[token], position[token], event_type, *span(spans), decoded["arguments"].label)
    return found


def annotated(rows: Annotations, batch: SentenceBatch) -> Annotations:
    """Remove the rows in layers that a sentence is not annotated with, where the truth is unknown."""
    known = batch.weights > 0

    def of(layer: str, part: Tensor) -> Tensor:
        return part[known[part[:, 0], LAYERS.index(layer)]]

    return Annotations(
        of("ner", rows.ner),
        of("relations", rows.relations),
        of("events", rows.triggers),
        of("events", rows.arguments),
    )


def _look_up(keys: Tensor, labels: Tensor) -> Tensor:
    """Return the label of each key, 0 if it has none; the columns of ``labels`` are sorted keys and labels."""
    if not len(labels):
        return torch.zeros_like(keys)
    place = torch.searchsorted(labels[:, 0].contiguous(), keys).clamp_(max=len(labels) - 1)
    return torch.where(labels[place, 0] == keys, labels[place, 1], 0)
