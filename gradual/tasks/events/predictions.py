"""Predictions in DyGIE's format, one JSON object per document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from gradual.tasks.events.batch import SentenceBatch
from gradual.tasks.events.labels import LabelSpace
from gradual.tasks.events.loss import Predictions

_DIGITS = 4


def predicted_records(
    predicted: dict[str, Predictions], batch: SentenceBatch, labels: LabelSpace, layers: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the documents of a batch as they were read, with the predictions for each sentence added.

    ``predicted_ner`` holds ``[start, end, label, logit, probability]``; ``predicted_relations`` has two spans instead
    of one; ``predicted_events`` has one list per event, ``[[trigger, type, logit, probability], [start, end, role,
    logit, probability], ...]``. Indices count tokens of the document, and spans include their last token.

    Args:
        predicted: The predictions by scorer.
        batch: The batch.
        labels: The label space.
        layers: The layers that the model has scorers for.
    """
    documents = [json.loads(record) for record in batch.records]
    found: dict[str, list[list[Any]]] = {layer: [[] for _ in batch.document] for layer in layers}
    token_sentence = batch.token_sentence.tolist()
    # token indices run on through the documents of a batch; those in the output count from a document's start
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
        end_place = place + len(document["sentences"])
        predictions = {f"predicted_{layer}": found[layer][place:end_place] for layer in layers}
        records.append({**document, **predictions})
        place = end_place
    return records


def _rows(predicted: dict[str, Predictions], name: str, labels: Sequence[str]) -> list[Any]:
    """List ``[places, label, logit, probability]`` for every prediction of a scorer that the model has."""
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
