"""Batches of documents: sentences without padding between them, and all indices that the model needs.

Everything that varies in number (tokens, spans, candidates, pairs) is stored in flat rows and connected by indices. The
indices depend only on sentence lengths, so they are computed here, in the processes of the data loader: a training step
neither loops over sentences nor waits for results from a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradual.checks import check_fields, integer, number
from gradual.nn.grouping import group_by_length
from gradual.nn.windows import Ints
from gradual.tasks.events.features import EncodedDocument
from gradual.tasks.events.metrics import Annotations


@dataclass
class PieceGroup:
    """Windows of similar length that are encoded together.

    Attributes:
        input_ids: Word pieces, shape ``(windows, length)``.
        attention_mask: 1 for word pieces, 0 for padding, same shape.
    """

    input_ids: Tensor
    attention_mask: Tensor


@dataclass
class Candidates:
    """Indices for keeping the items with the highest scores in each sentence.

    Attributes:
        slot: For each item, its cell in a flattened table of sentences by items.
        shape: The shape of that table.
        most: The largest number of items that a sentence keeps.
        kept: For each kept candidate, in sentence order, its cell in a flattened table of sentences by ``most``.
    """

    slot: Tensor
    shape: tuple[int, int]
    most: int
    kept: Tensor


@dataclass
class Pairs:
    """All pairs of two candidates of the same sentence, each of its own kind.

    Attributes:
        first: For each pair, the position of its first member among all candidates of the first kind.
        second: The position of its second member among those of the second kind.
    """

    first: Tensor
    second: Tensor


@dataclass
class SentenceBatch:
    """The sentences of several documents. ``s`` sentences, ``T`` tokens, ``M`` spans, ``P`` word pieces.

    Attributes:
        groups: The windows, grouped by length.
        cells: For each word piece of the windows, including special ones, its cell in the flattened, concatenated
            groups.
        piece: For each word piece of a token, the cell from which its state is taken; shape ``(P,)``.
        piece_token: The token that it belongs to, shape ``(P,)``.
        piece_share: The reciprocal of the number of pieces of that token, shape ``(P,)``.
        token_sentence: The sentence of each token, shape ``(T,)``.
        token_position: Its position in the sentence, shape ``(T,)``.
        span_start: First token of each span, shape ``(M,)``; spans with the same start are ordered by width.
        span_end: Last token of each span, shape ``(M,)``.
        trigger_candidates: Selects the tokens that may be triggers of arguments.
        argument_candidates: Selects the spans that may be arguments.
        argument_pairs: Pairs of such a token and such a span.
        relation_candidates: Selects the spans that may be related.
        relation_pairs: Pairs of such spans.
        ner_labels: For each span, 0 for none or 1 + its label; shape ``(M,)``.
        trigger_labels: The same for each token, shape ``(T,)``.
        argument_labels: Rows of token * M + span and 1 + role, sorted by the first; shape ``(arguments, 2)``.
        relation_labels: Rows of span * M + span and 1 + label, sorted by the first; shape ``(relations, 2)``.
        weights: Weight of each sentence's loss by layer, 0 if the layer is not annotated; shape ``(s, 3)``.
        schema: Which labels each sentence may have, shape ``(s,)``.
        document: The document of each sentence, shape ``(s,)``.
        ids: Keys of the documents.
        records: The documents as JSON, for predictions to be added to.
        gold: All annotations, including those the model cannot predict, such as spans that are too wide.
    """

    groups: list[PieceGroup]
    cells: Tensor
    piece: Tensor
    piece_token: Tensor
    piece_share: Tensor
    token_sentence: Tensor
    token_position: Tensor
    span_start: Tensor
    span_end: Tensor
    trigger_candidates: Candidates
    argument_candidates: Candidates
    argument_pairs: Pairs
    relation_candidates: Candidates
    relation_pairs: Pairs
    ner_labels: Tensor
    trigger_labels: Tensor
    argument_labels: Tensor
    relation_labels: Tensor
    weights: Tensor
    schema: Tensor
    document: Tensor
    ids: list[str]
    records: list[str]
    gold: Annotations


@dataclass(frozen=True)
class Pruning:
    """How many candidates a sentence keeps, relative to its number of tokens (Wadden et al., 2019).

    At least one trigger candidate and one argument candidate are kept.

    Attributes:
        triggers: Trigger candidates per token, rounded down.
        max_triggers: Maximum number of trigger candidates.
        arguments: Argument candidates per token, rounded down.
        max_arguments: Maximum number of argument candidates.
        relations: Spans per token that may be related, rounded up.
    """

    triggers: float = 0.3
    max_triggers: int = 15
    arguments: float = 0.8
    max_arguments: int = 30
    relations: float = 0.5

    def __post_init__(self) -> None:
        accepted = {name: integer(1) if name.startswith("max_") else number(0) for name in vars(self)}
        check_fields(self, "pruning.{}", **accepted)


class SentenceCollator:
    """Makes a ``SentenceBatch`` from documents.

    Args:
        pad_token_id: The tokenizer's padding token.
        max_span_width: Maximum length of a span in tokens.
        pruning: How many candidates a sentence keeps.
        relations: Whether to make pairs of spans, which is wasted effort if the data has no relations.
        max_padding: Maximum share of padding inside attention; there is none anywhere else.
    """

    def __init__(
        self,
        pad_token_id: int,
        max_span_width: int = 8,
        pruning: Pruning | None = None,
        relations: bool = True,
        max_padding: float = 0.1,
    ):
        self.pad_token_id, self.max_span_width, self.max_padding = pad_token_id, max_span_width, max_padding
        self.pruning, self.relations = pruning or Pruning(), relations

    def __call__(self, documents: list[EncodedDocument]) -> SentenceBatch:
        """Group and pad the windows, and compute the indices."""
        sentences = [sentence for document in documents for sentence in document.sentences]
        document = np.repeat(np.arange(len(documents)), [len(d.sentences) for d in documents])
        lengths = np.array([sentence.length for sentence in sentences], dtype=np.int64)
        first_token = _starts(lengths)
        groups, piece = self._pieces(sentences)
        piece_token = np.concatenate([s.token + first for s, first in zip(sentences, first_token)])
        token_sentence = np.repeat(np.arange(len(sentences)), lengths)
        token_position = _places(lengths)
        widths = np.minimum(self.max_span_width, np.repeat(lengths, lengths) - token_position)  # spans by start
        first_span = _starts(widths)
        span_start = np.repeat(np.arange(len(widths)), widths)
        span_end = span_start + _places(widths)
        spans = np.bincount(token_sentence, weights=widths, minlength=len(lengths)).astype(np.int64)

        gold = [_flat([getattr(s, name) for s in sentences]) for name in ("ner", "relations", "triggers", "arguments")]
        ner, relations, triggers, arguments = gold

        def span(rows: Ints, column: int) -> Ints:
            """Return the indices of the spans in two columns, -1 for spans that are too wide."""
            width = rows[:, column + 1] - rows[:, column]
            start = first_token[rows[:, 0]] + rows[:, column]
            return np.where(width < self.max_span_width, first_span[start] + width, -1)

        ner_labels = np.zeros(len(span_start), dtype=np.int64)
        _put(ner_labels, span(ner, 1), ner[:, 3] + 1)
        trigger_labels = np.zeros(len(token_sentence), dtype=np.int64)
        _put(trigger_labels, first_token[triggers[:, 0]] + triggers[:, 1], triggers[:, 2] + 1)

        rates = self.pruning
        keep_triggers = np.clip(_floor(rates.triggers * lengths), 1, rates.max_triggers)
        keep_triggers = np.minimum(keep_triggers, lengths)
        keep_arguments = np.clip(_floor(rates.arguments * lengths), 1, rates.max_arguments)
        keep_arguments = np.minimum(keep_arguments, spans)
        keep_relations = -_floor(-rates.relations * lengths) if self.relations else lengths * 0
        keep_relations = np.minimum(keep_relations, spans)
        return SentenceBatch(
            groups=groups,
            cells=torch.cat([group.attention_mask.flatten() for group in groups]).nonzero().flatten(),
            piece=torch.from_numpy(piece),
            piece_token=torch.from_numpy(piece_token),
            piece_share=torch.from_numpy((1 / np.bincount(piece_token))[piece_token].astype(np.float32)),
            token_sentence=torch.from_numpy(token_sentence),
            token_position=torch.from_numpy(token_position),
            span_start=torch.from_numpy(span_start),
            span_end=torch.from_numpy(span_end),
            trigger_candidates=_candidates(lengths, keep_triggers),
            argument_candidates=_candidates(spans, keep_arguments),
            argument_pairs=_pairs(keep_triggers, keep_arguments),
            relation_candidates=_candidates(spans, keep_relations),
            relation_pairs=_pairs(keep_relations, keep_relations),
            ner_labels=torch.from_numpy(ner_labels),
            trigger_labels=torch.from_numpy(trigger_labels),
            argument_labels=_pair_labels(
                first_token[arguments[:, 0]] + arguments[:, 1], span(arguments, 3), arguments[:, 5], len(span_start)
            ),
            relation_labels=_pair_labels(span(relations, 1), span(relations, 3), relations[:, 5], len(span_start)),
            weights=torch.tensor([[d.weight * known for known in d.layers] for d in documents])[document],
            schema=torch.tensor([d.schema for d in documents])[document],
            document=torch.from_numpy(document),
            ids=[d.id for d in documents],
            records=[d.record for d in documents],
            gold=Annotations(*map(torch.from_numpy, gold)),
        )

    def _pieces(self, sentences: Sequence[Any]) -> tuple[list[PieceGroup], Ints]:
        """Group the windows by length, and find the cell of each word piece of each sentence."""
        windows = [window for sentence in sentences for window in sentence.windows]
        lengths = np.array([len(window) for window in windows])
        by_length = np.argsort(-lengths, kind="stable")
        groups, first_cell, base = [], np.empty(len(windows), dtype=np.int64), 0
        for start, end in group_by_length(lengths[by_length], self.max_padding):
            rows = by_length[start:end]
            width = int(lengths[rows[0]])
            ids = np.full((len(rows), width), self.pad_token_id, dtype=np.int64)
            mask = (np.arange(width) < lengths[rows][:, None]).astype(np.int64)
            ids[mask.astype(bool)] = np.concatenate([windows[row] for row in rows])
            groups.append(PieceGroup(torch.from_numpy(ids), torch.from_numpy(mask)))
            first_cell[rows] = base + np.arange(len(rows)) * width
            base += ids.size
        first_window = _starts(np.array([len(sentence.windows) for sentence in sentences]))
        cells = [first_cell[first + s.row] + s.column for s, first in zip(sentences, first_window)]
        return groups, np.concatenate(cells)


def _floor(numbers: npt.NDArray[np.floating[Any]]) -> Ints:
    """Round down, where 0.29 * 100, which is 28.999..., counts as 29."""
    return np.floor(numbers + 1e-9).astype(np.int64)


def _starts(counts: npt.NDArray[Any]) -> Ints:
    """Return where each run of rows starts, given the length of each."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def _places(counts: Ints) -> Ints:
    """Return 0, 1, 2, ... within each run of rows, given the length of each."""
    return np.arange(counts.sum()) - np.repeat(_starts(counts), counts)


def _flat(parts: Sequence[Ints]) -> Ints:
    """Concatenate the rows of all sentences, with the index of the sentence as the first column."""
    sentence = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.column_stack([sentence, np.concatenate(parts)])


def _put(labels: Ints, places: Ints, values: Ints) -> None:
    """Set labels; the first of several for the same place wins."""
    inside = places >= 0
    labels[places[inside][::-1]] = values[inside][::-1]


def _candidates(counts: Ints, keep: Ints) -> Candidates:
    shape, most = (len(counts), int(counts.max())), int(keep.max())
    slot = np.repeat(np.arange(len(counts)) * shape[1], counts) + _places(counts)
    kept = np.repeat(np.arange(len(keep)) * most, keep) + _places(keep)
    return Candidates(torch.from_numpy(slot), shape, most, torch.from_numpy(kept))


def _pairs(first: Ints, second: Ints) -> Pairs:
    counts = first * second
    place, columns = _places(counts), np.repeat(np.maximum(second, 1), counts)
    return Pairs(
        torch.from_numpy(np.repeat(_starts(first), counts) + place // columns),
        torch.from_numpy(np.repeat(_starts(second), counts) + place % columns),
    )


def _pair_labels(first: Ints, second: Ints, labels: Ints, spans: int) -> Tensor:
    possible = (first >= 0) & (second >= 0)
    keys, rows = np.unique((first * spans + second)[possible], return_index=True)  # the first of several labels
    return torch.from_numpy(np.column_stack([keys, labels[possible][rows] + 1]))
