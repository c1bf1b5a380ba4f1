"""Documents to word pieces and integer annotations, encoded once per run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from gradual.errors import InputError
from gradual.tasks.events.documents import LAYERS, Document, Sentence
from gradual.tasks.events.labels import LabelSpace

Ints = npt.NDArray[np.int64]


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

    windows: list[npt.NDArray[np.int32]]
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
        schema: 0 if it may have any label of the label space, 1 if only labels that occur in the pool.
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

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: int) -> EncodedDocument:
        return self._encoded[index]


def _pieces(sentence: EncodedSentence) -> int:
    return sum(map(len, sentence.windows))


def _encode(
    sentences: Sequence[Sentence], tokenizer: Any, labels: LabelSpace, max_length: int
) -> list[EncodedSentence]:
    if not sentences:
        return []
    prefix, suffix = _special_pieces(tokenizer)
    room = max_length - len(prefix) - len(suffix)
    words = [sentence.tokens for sentence in sentences]
    # verbose would warn about sentences over the encoder's limit, which windows take care of
    batch = tokenizer(words, is_split_into_words=True, add_special_tokens=False, verbose=False)
    index = {layer: labels.index(layer) for layer in ("ner", "relations", "triggers", "roles")}
    encoded = []
    for sentence, pieces in zip(sentences, batch.encodings):
        ids, token = np.array(pieces.ids, dtype=np.int32), np.array(pieces.word_ids, dtype=np.int64)
        ids, token = _fill_gaps(ids, token, sentence.tokens, tokenizer.unk_token_id)
        starts = _window_starts(len(ids), room)
        row, column = _most_central(len(ids), starts, room)
        windows = [np.concatenate([prefix, ids[start : start + room], suffix]) for start in starts]
        encoded.append(
            EncodedSentence(
                windows, row, column + len(prefix), token, len(sentence.tokens), *_annotations(sentence, index)
            )
        )
    return encoded


def _special_pieces(tokenizer: Any) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the special pieces that the tokenizer adds before and after a text."""
    encoding = tokenizer("a", return_special_tokens_mask=True)
    special = np.array(encoding["special_tokens_mask"], dtype=bool)
    ids = np.array(encoding["input_ids"], dtype=np.int32)
    before = int(np.argmin(special))
    after = int(np.argmin(special[::-1]))
    return ids[:before], ids[len(ids) - after :]


def _fill_gaps(
    ids: npt.NDArray[np.int32], token: Ints, tokens: Sequence[str], unknown: int | None
) -> tuple[npt.NDArray[np.int32], Ints]:
    """Insert an unknown piece for every token without word pieces, such as a control character."""
    missing = np.setdiff1d(np.arange(len(tokens)), token)
    if not len(missing):
        return ids, token
    if unknown is None:
        raise InputError(
            f"The tokenizer has no word pieces for the token {tokens[missing[0]]!r:.80}, and no unknown token "
            "(unk_token): remove the token from the documents."
        )
    places = np.searchsorted(token, missing)
    return np.insert(ids, places, unknown), np.insert(token, places, missing)


def _window_starts(pieces: int, room: int) -> Ints:
    """Return where overlapping windows of ``room`` pieces start: half a window apart, the last one at the end."""
    if pieces <= room:
        return np.zeros(1, dtype=np.int64)
    starts = np.arange(0, pieces - room, max(1, room // 2), dtype=np.int64)
    return np.append(starts, pieces - room)


def _most_central(pieces: int, starts: Ints, room: int) -> tuple[Ints, Ints]:
    """Return, for each piece, the window in which it is farthest from the edges, and its position there."""
    place = np.arange(pieces)[None] - starts[:, None]  # windows, pieces
    distance = np.minimum(place, room - 1 - place)  # negative outside a window
    # the ends of the text itself do not count as edges: nothing is cut off there
    distance = np.where((starts[:, None] == 0) & (place < room), np.maximum(distance, room - 1 - place), distance)
    distance = np.where((starts[:, None] + room >= pieces) & (place >= 0), np.maximum(distance, place), distance)
    row = distance.argmax(0)
    return row, place[row, np.arange(pieces)]


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
