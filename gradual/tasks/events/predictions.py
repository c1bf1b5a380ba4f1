"""Predictions in DyGIE's format, a document an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradual.tasks.events.batch import SentenceBatch
from gradual.tasks.events.data import Document
from gradual.tasks.events.labels import LabelSpace
from gradual.tasks.events.loss import Predictions

_DIGITS = 4


def predicted_record(
    documents: Sequence[Document],
    predicted: dict[str, Predictions],
    batch: SentenceBatch,
    labels: LabelSpace,
    layers: Sequence[str],
) -> list[dict[str, Any]]:
    """The documents as they were read, with what is predicted for each sentence.

    ``predicted_ner`` holds ``[start, end, label, logit, probability]``, ``predicted_relations`` two spans instead of
    one, ``predicted_events`` a list an event, ``[[trigger, type, logit, probability], [start, end, role, logit,
    probability], ...]``; indices are those of the document's tokens, the last one inclusive.

    Args:
        documents: The documents of the batch.
        predicted: What was predicted, by scorer.
        batch: The batch.
        labels: The label space.
        layers: The layers that the model has scorers for.
    """
    sentences = [sentence for document in documents for sentence in document.sentences]
    found: dict[str, list[list[Any]]] = {layer: [[] for _ in sentences] for layer in layers}
    token_sentence = batch.token_sentence.tolist()
    # tokens of a batch count through its documents, tokens of a document from its start
    per_document = torch.bincount(batch.document[batch.token_sentence], minlength=len(documents))
    first_token = (per_document.cumsum(0) - per_document)[batch.document[batch.token_sentence]]
    token = (torch.arange(len(token_sentence), device=first_token.device) - first_token).tolist()
    start, end = batch.span_start.tolist(), batch.span_end.tolist()

    def span(index: int) -> list[int]:
        return [token[start[index]], token[end[index]]]

    for (index,), *label in _rows(predicted, "ner", labels.ner):
        found["ner"][token_sentence[start[index]]].append([*span(index), *label])
    for (first, second), *label in _rows(predicted, "relations", labels.relations):
        found["relations"][token_sentence[start[first]]].append([*span(first), *span(second), *label])
    events: dict[int, list[Any]] = {}
    for (index,), *label in _rows(predicted, "triggers", labels.triggers):
        events[index] = [[token[index], *label]]
        found["events"][token_sentence[index]].append(events[index])
    for (trigger, index), *label in _rows(predicted, "arguments", labels.roles):
        events[trigger].append([*span(index), *label])
    records, place = [], 0
    for document in documents:
        end_place = place + len(document.sentences)
        predictions = {f"predicted_{layer}": found[layer][place:end_place] for layer in layers}
        records.append({**document.record, **predictions})
        place = end_place
    return records


def _rows(predicted: dict[str, Predictions], name: str, labels: Sequence[str]) -> list[Any]:
    """``[places, label, logit, probability]`` of every prediction of a scorer; none where the model lacks it."""
    if name not in predicted:
        return []
    rows = predicted[name]
    places = zip(*(place.tolist() for place in rows.places))
    return [
        [place, labels[label], round(logit, _DIGITS), round(probability, _DIGITS)]
        for place, label, logit, probability in zip(
            places, rows.label.tolist(), rows.logit.tolist(), rows.probability.tolist()
        )
    ]
