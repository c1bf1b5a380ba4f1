"""Documents to word pieces and integer annotations, encoded once per run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from gradual.data.relevance.tokens import Tokens
from gradual.nn.windows import Ints, Pieces, split_words
from gradual.tasks.events.documents import LAYERS, Document, Sentence
from gradual.tasks.events.labels import LabelSpace


class EncodedSentence(NamedTuple):
    """A sentence as the model reads it. Indices count from the start of the sentence, labels from 0.

    Attributes:
        windows: Word-piece ids with special pieces around them; several overlapping windows if the sentence is longer
            than the encoder accepts.
        row: For each word piece, the window to take its state from: the one whose edges are farthest away.
        column: Its position in that window.
        token: The token that it belongs to.
        length: Number of tokens.
        ner: Start, end, label; shape ``(entities, 3)``.
        relations: Start and end of the first, of the second, label; shape ``(relations, 5)``.
        triggers: Token, event type; shape ``(triggers, 2)``.
        arguments: Trigger token, event type, start, end, role; shape ``(arguments, 5)``.
    """

    windows: list[Pieces]
    row: Ints
    column: Ints
    token: Ints
    length: int
    ner: Ints
    relations: Ints
    triggers: Ints
    arguments: Ints


class EncodedDocument(NamedTuple):
    """A document as the model reads it.

    Attributes:
        id: Its key.
        sentences: Its sentences.
        weight: Factor on its loss.
        layers: Which of ``LAYERS`` are annotated; the others count neither in the loss nor in the scores.
        schema: 0 if it may have any label of the label space, 1 if only labels that occur in the pool; with named
            sources 1, 2, ... if only labels that occur in its source.
        record: The document as it was read, as JSON.
    """

    id: str
    sentences: list[EncodedSentence]
    weight: float
    layers: tuple[bool, ...]
    schema: int
    record: str


class DocumentFeatures(Dataset[EncodedDocument]):
    """Documents with their tokens split into word pieces.

    Args:
        documents: The documents to encode.
        tokenizer: A fast tokenizer from ``transformers`` that accepts words.
        labels: The label space, which must contain every label of the documents.
        max_length: Maximum length of a window in word pieces, including special ones.
        schema: Which labels the documents may have; see ``EncodedDocument``.

    Attributes:
        ids: The keys of the documents.
        lengths: Number of word pieces in each document, including special ones.
        windowed: Number of sentences that are encoded in more than one window.
    """

    def __init__(
        self, documents: Sequence[Document], tokenizer: Any, labels: LabelSpace, max_length: int, schema: int = 0
    ):
        self.ids = [document.id for document in documents]
        sentences = [sentence for document in documents for sentence in document.sentences]
        encoded = iter(_encode(sentences, tokenizer, labels, max_length))
        self._encoded = [
            EncodedDocument(
                document.id,
                [next(encoded) for _ in document.sentences],
                document.weight,
                tuple(layer in document.layers for layer in LAYERS),
                schema,
                json.dumps(document.record),
            )
            for document in documents
        ]
        self.lengths = np.array([sum(map(_pieces, document.sentences)) for document in self._encoded], dtype=np.int64)
        self.windowed = sum(len(s.windows) > 1 for document in self._encoded for s in document.sentences)

    def token_ids(self, start: int, stop: int) -> Tokens:
        """Return the word pieces of consecutive documents."""
        documents = self._encoded[start:stop]
        return Tokens.of(
            [[piece for s in document.sentences for window in s.windows for piece in window] for document in documents]
        )

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: int) -> EncodedDocument:
        return self._encoded[index]


def _pieces(sentence: EncodedSentence) -> int:
    return sum(map(len, sentence.windows))


def _encode(
    sentences: Sequence[Sentence], tokenizer: Any, labels: LabelSpace, max_length: int
) -> list[EncodedSentence]:
    index = {layer: labels.index(layer) for layer in ("ner", "relations", "triggers", "roles")}
    split = split_words([sentence.tokens for sentence in sentences], tokenizer, max_length)
    return [
        EncodedSentence(*pieces, len(sentence.tokens), *_annotations(sentence, index))
        for sentence, pieces in zip(sentences, split)
    ]


def _annotations(sentence: Sentence, index: dict[str, dict[str, int]]) -> tuple[Ints, Ints, Ints, Ints]:
    ner = [(start, end, index["ner"][label]) for start, end, label in sentence.ner]
    relations = [(*spans, index["relations"][label]) for *spans, label in sentence.relations]
    triggers = [(event.trigger, index["triggers"][event.type]) for event in sentence.events]
    arguments = [
        (event.trigger, index["triggers"][event.type], start, end, index["roles"][role])
        for event in sentence.events
        for start, end, role in event.arguments
    ]
    return _array(ner, 3), _array(relations, 5), _array(triggers, 2), _array(arguments, 5)


def _array(rows: Sequence[tuple[int, ...]], columns: int) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(-1, columns)
