"""Precision, recall and F1 of triggers, arguments, entities and relations: micro averages over a corpus.

An item is the token of a trigger, a pair of a trigger and an argument, an entity or a relation; the same annotation
given twice is one item. An item is right if the other side has one that agrees with it in what the score looks at:

- ``trig_id``: the token. Several event types on one token are one item.
- ``trig_c``: and the event type. Several event types on one token are several items.
- ``arg_id``: the argument's tokens and the event type. The trigger's token need not agree, but tells items apart: an
  argument of two events is two items. Several roles of one argument in one event are one item.
- ``arg_c``: and the role. Several roles are several items.
- ``ner``: the tokens and the type.
- ``relation``: both spans, in their order, and the type.

As in DyGIE++, a predicted item is right if there is a gold one that it agrees with, whoever else agrees with it: two
predicted events of one type that share an argument are both right about it where one gold event has it. Precision,
recall and F1 are made of this one count, of all predicted and of all gold items; where so many predictions share gold
items that recall or F1 would exceed 1, it is 1.
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
    """The annotations of a batch, predicted or gold: integers, a row an item, repetitions allowed.

    Sentences count from the batch's start, tokens from their sentence's; a span's end is its last token. Labels are
    positions in the label space. All are below 2^31.

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
        layer: The layer of ``LAYERS`` that it belongs to.
        part: The rows of ``Annotations`` that it is about.
        match: Columns in which right items agree.
        apart: Further columns that tell items apart.
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
    """The F1 scores of each document, as ``[2 * right, predicted + gold]``: what significance tests resample.

    Summed over documents these are the F1 scores of ``ExtractionScores``.

    Args:
        predicted: What the model found.
        gold: What there is.
        document: For each sentence, the index of its document in ``ids``.
        ids: Keys of the documents.
        layers: Those of ``LAYERS`` that are scored.
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
    """Scores of extraction, summed over batches and processes.

    ``trig_id``, ``trig_c``, ``arg_id``, ``arg_c``, ``ner`` and ``relation``, each with ``_precision``, ``_recall`` and
    ``_f1``, from 0 to 1, and 0 where there is nothing to divide by; what they count stands at the head of this module.
    ``loss`` is the mean over documents. Sentences whose layer is not annotated belong on neither side: the caller
    leaves them out.

    Args:
        layers: Those of ``LAYERS`` that are scored; the others' scores do not appear.
    """

    counts: Tensor
    loss_sum: Tensor
    documents: Tensor

    def __init__(self, layers: Sequence[str]):
        super().__init__()
        self.scores = tuple(score for score in _SCORES if score.layer in layers)
        self.add_count("counts", len(self.scores), 3)  # of each score: right, predicted, gold
        self.add_sum("loss_sum")
        self.add_count("documents")

    def update(self, predicted: Annotations, gold: Annotations, loss: Tensor, documents: int) -> None:
        """Add a batch; nothing in it waits for a GPU.

        Args:
            predicted: What the model found.
            gold: What there is.
            loss: The loss, summed over the batch; a scalar.
            documents: Number of documents of the batch.
        """
        for index, score in enumerate(self.scores):
            self.counts[index] += _counts(score, predicted, gold)[0]
        self.loss_sum += loss.detach().to(self.loss_sum.dtype)
        self.documents += documents

    def compute(self) -> dict[str, Tensor]:
        """The scores, each a scalar."""
        scores = {"loss": (self.loss_sum / self.documents.clamp_min(1)).float()}
        for score, (right, predicted, gold) in zip(self.scores, self.counts):
            scores[f"{score.name}_precision"] = right / predicted.clamp_min(1)
            scores[f"{score.name}_recall"] = (right / gold.clamp_min(1)).clamp_max(1)
            scores[f"{score.name}_f1"] = (2 * right / (predicted + gold).clamp_min(1)).clamp_max(1)
        return scores


def _counts(
    score: _Score, predicted: Annotations, gold: Annotations, document: Tensor | None = None, documents: int = 1
) -> Tensor:
    """Right, predicted and gold items of each document, shape ``(documents, 3)``; without ``document`` all is one."""
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
    """A number for each row, the same for rows that agree in all columns, and smaller than the number of rows.

    Column by column, so that no key exceeds 63 bits however large the values are; by sorting, since the size of what
    ``torch.unique`` gives is waited for.
    """
    group = torch.zeros_like(columns[0])
    for column in columns:
        keys = (group << 31) + column
        group = torch.searchsorted(keys.sort().values, keys)  # how many are smaller
    return group
