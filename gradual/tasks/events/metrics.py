"""Precision, recall and F1 of triggers, arguments, entities and relations, micro-averaged over a corpus.

An item is the token of a trigger, a pair of trigger and argument, an entity, or a relation; duplicate annotations are
one item. A predicted item is correct if some gold item matches it in what the score compares:

- ``trig_id``: the token. Several event types on one token are one item.
- ``trig_c``: the token and the event type. Several event types on one token are several items.
- ``arg_id``: the argument's tokens and the event type. The trigger's token need not match, but distinguishes items: an
  argument of two events is two items. Several roles of one argument in one event are one item.
- ``arg_c``: these and the role. Several roles are several items.
- ``ner``: the tokens and the type.
- ``relation``: both spans, in order, and the type.

As in DyGIE++, several predicted items may match the same gold item: if two predicted events of one type share an
argument and one gold event has it, both are correct. Precision, recall and F1 are computed from the number of correct
predicted items, of all predicted items and of all gold items. Recall and F1 are capped at 1, which they would exceed if
many predictions matched the same gold items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradual.tasks.events.documents import LAYERS
from gradual.tasks.scores import TaskScores


@dataclass
class Annotations:
    """The predicted or gold annotations of a batch: integers, one row per item, possibly with duplicates.

    Sentences are counted from the start of the batch, tokens from the start of their sentence; the end of a span is its
    last token. Labels are positions in the label space. All numbers are below 2^31.

    Attributes:
        ner: Sentence, start, end, label; shape ``(entities, 4)``.
        relations: Sentence, start and end of the first span, of the second, label; shape ``(relations, 6)``.
        triggers: Sentence, token, event type; shape ``(triggers, 3)``.
        arguments: Sentence, trigger token, event type, start, end, role; shape ``(arguments, 6)``.
    """

    ner: Tensor
    relations: Tensor
    triggers: Tensor
    arguments: Tensor


class _Score(NamedTuple):
    """What a score compares.

    Attributes:
        name: Its name, without ``_f1`` and the like.
        layer: The member of ``LAYERS`` that it belongs to.
        part: The field of ``Annotations`` that holds its items.
        match: The columns in which a predicted and a gold item must agree.
        apart: Further columns that distinguish items.
    """

    name: str
    layer: str
    part: str
    match: tuple[int, ...]
    apart: tuple[int, ...] = ()


_SCORES = (
    _Score("trig_id", "events", "triggers", match=(0, 1)),
    _Score("trig_c", "events", "triggers", match=(0, 1, 2)),
    _Score("arg_id", "events", "arguments", match=(0, 2, 3, 4), apart=(1,)),
    _Score("arg_c", "events", "arguments", match=(0, 2, 3, 4, 5), apart=(1,)),
    _Score("ner", "ner", "ner", match=(0, 1, 2, 3)),
    _Score("relation", "relations", "relations", match=(0, 1, 2, 3, 4, 5)),
)


def document_scores(
    predicted: Annotations, gold: Annotations, document: Tensor, ids: Sequence[str], layers: Sequence[str] = LAYERS
) -> list[dict[str, Any]]:
    """Return the F1 scores of each document as ``[2 * correct, predicted + gold]``, which significance tests resample.

    Sums over documents give the F1 scores of ``ExtractionScores``.

    Args:
        predicted: The predicted annotations.
        gold: The gold annotations.
        document: For each sentence, the index of its document in ``ids``.
        ids: Keys of the documents.
        layers: The members of ``LAYERS`` to score.
    """
    records: list[dict[str, Any]] = [{"id": id_} for id_ in ids]
    for score in _SCORES:
        if score.layer in layers:
            counts = _counts(score, predicted, gold, document, len(ids))
            pairs = torch.stack([2 * counts[:, 0], counts[:, 1] + counts[:, 2]], 1).tolist()
            for record, pair in zip(records, pairs):
                record[f"{score.name}_f1"] = pair
    return records


class ExtractionScores(TaskScores):
    """Extraction scores over all batches and processes.

    ``trig_id``, ``trig_c``, ``arg_id``, ``arg_c``, ``ner`` and ``relation``, each with ``_precision``, ``_recall`` and
    ``_f1``, from 0 to 1, and 0 if the denominator is 0; the docstring of this module defines them. ``loss`` is the mean
    over documents. The caller must leave out sentences that are not annotated with the layer, on both sides.

    Args:
        layers: The members of ``LAYERS`` to score; scores of the others do not appear.
    """

    counts: Tensor
    loss_sum: Tensor
    documents: Tensor

    def __init__(self, layers: Sequence[str]):
        super().__init__()
        self.scores = tuple(score for score in _SCORES if score.layer in layers)
        self.add_count("counts", len(self.scores), 3)  # for each score: correct, predicted, gold
        self.add_sum("loss_sum")
        self.add_count("documents")

    def update(self, predicted: Annotations, gold: Annotations, loss: Tensor, documents: int) -> None:
        """Add a batch, without waiting for a GPU.

        Args:
            predicted: The predicted annotations.
            gold: The gold annotations.
            loss: The loss summed over the batch, a scalar.
            documents: Number of documents in the batch.
        """
        for index, score in enumerate(self.scores):
            self.counts[index] += _counts(score, predicted, gold)[0]
        self.loss_sum += loss.detach().to(self.loss_sum.dtype)
        self.documents += documents

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, each a scalar."""
        scores = {"loss": (self.loss_sum / self.documents.clamp_min(1)).float()}
        for score, (right, predicted, gold) in zip(self.scores, self.counts):
            scores[f"{score.name}_precision"] = right / predicted.clamp_min(1)
            scores[f"{score.name}_recall"] = (right / gold.clamp_min(1)).clamp_max(1)
            scores[f"{score.name}_f1"] = (2 * right / (predicted + gold).clamp_min(1)).clamp_max(1)
        return scores


def _counts(
    score: _Score, predicted: Annotations, gold: Annotations, document: Tensor | None = None, documents: int = 1
) -> Tensor:
    """Count correct, predicted and gold items, shape ``(documents, 3)``; without ``document``, all in one row."""
    parts = [getattr(side, score.part) for side in (predicted, gold)]
    rows = torch.cat(parts)
    each = torch.arange(len(rows), device=rows.device)
    side = (each >= len(parts[0])).long()
    match = _group([rows[:, column] for column in score.match])
    item = _group([match, side, *(rows[:, column] for column in score.apart)])
    once = (torch.zeros_like(each).scatter_(0, item, each)[item] == each).long()  # 1 for one row of each item
    of_side = once.new_zeros(2 * len(rows)).index_add_(0, side * len(rows) + match, once).view(2, -1)
    owner = torch.zeros_like(each) if document is None else document[rows[:, 0]]
    owner_of_match = torch.zeros_like(each).scatter_(0, match, owner)
    counts = once.new_zeros(3 * documents)
    counts.index_add_(0, 3 * owner_of_match, of_side[0] * (of_side[1] > 0))
    counts.index_add_(0, 3 * owner + 1 + side, once)
    return counts.view(documents, 3)


def _group(columns: Sequence[Tensor]) -> Tensor:
    """Number the rows, from 0 to below their count, so that rows that agree in all columns have the same number.

    Works column by column, so that no key exceeds 63 bits, and by sorting, since ``torch.unique`` would wait for the
    device to learn the size of its result.
    """
    group = torch.zeros_like(columns[0])
    for column in columns:
        keys = (group << 31) + column
        group = torch.searchsorted(keys.sort().values, keys)  # the number of smaller keys
    return group
