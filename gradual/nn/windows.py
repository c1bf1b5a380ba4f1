"""Sentences of words as word pieces, in overlapping windows where they are longer than an encoder accepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradual.errors import InputError

Ints = npt.NDArray[np.int64]
Pieces = npt.NDArray[np.int32]


class Windows(NamedTuple):
    """The word pieces of a sentence.

    Attributes:
        windows: Word-piece ids with special pieces around them; several overlapping windows if the sentence is longer
            than the encoder accepts.
        row: For each word piece, the window to take its state from: the one whose edges are farthest away.
        column: Its position in that window.
        word: The word that it belongs to; every word has at least one.
    """

    windows: list[Pieces]
    row: Ints
    column: Ints
    word: Ints


class NoPiecesError(InputError):
    """A tokenizer has neither word pieces for a word nor a piece for unknown ones.

    Attributes:
        sentence: The index of the sentence.
    """

    def __init__(self, sentence: int, word: str):
        super().__init__(
            f"The tokenizer has no word pieces for the token {word!r:.80}, and no unknown token (unk_token): remove "
            "the token from the data."
        )
        self.sentence, self.word = sentence, word


def split_words(sentences: Sequence[Sequence[str]], tokenizer: Any, max_length: int | None) -> list[Windows]:
    """Split the words of sentences into word pieces.

    Args:
        sentences: The words of each sentence.
        tokenizer: A fast tokenizer that takes words.
        max_length: Maximum length of a window in word pieces, including special ones; None for no limit.

    Raises:
        NoPiecesError: A word has no pieces.
    """
    if not sentences:
        return []
    prefix, suffix = _special_pieces(tokenizer)
    # verbose would warn about sentences over the encoder's limit, which windows take care of
    batch = tokenizer(
        [list(words) for words in sentences], is_split_into_words=True, add_special_tokens=False, verbose=False
    )
    split = []
    for index, (words, pieces) in enumerate(zip(sentences, batch.encodings)):
        ids, word = np.array(pieces.ids, dtype=np.int32), np.array(pieces.word_ids, dtype=np.int64)
        missing = np.setdiff1d(np.arange(len(words)), word)
        if len(missing):  # words of which nothing is left, such as a control character
            if tokenizer.unk_token_id is None:
                raise NoPiecesError(index, words[missing[0]])
            places = np.searchsorted(word, missing)
            ids, word = np.insert(ids, places, tokenizer.unk_token_id), np.insert(word, places, missing)
        room = max(1, len(ids)) if max_length is None else max_length - len(prefix) - len(suffix)
        starts = window_starts(len(ids), room)
        row, place = most_central(len(ids), starts, room)
        windows = [np.concatenate([prefix, ids[start : start + room], suffix]) for start in starts]
        split.append(Windows(windows, row, place + len(prefix), word))
    return split


def _special_pieces(tokenizer: Any) -> tuple[Pieces, Pieces]:
    """Return the special pieces that the tokenizer adds before and after a text."""
    encoding = tokenizer("a", return_special_tokens_mask=True)
    special = np.array(encoding["special_tokens_mask"], dtype=bool)
    ids = np.array(encoding["input_ids"], dtype=np.int32)
    before = int(np.argmin(special))
    after = int(np.argmin(special[::-1]))
    return ids[:before], ids[len(ids) - after :]


def window_starts(pieces: int, room: int) -> Ints:
    """Return where overlapping windows of ``room`` pieces start: half a window apart, the last one at the end."""
    if pieces <= room:
        return np.zeros(1, dtype=np.int64)
    starts = np.arange(0, pieces - room, max(1, room // 2), dtype=np.int64)
    return np.append(starts, pieces - room)


def most_central(pieces: int, starts: Ints, room: int) -> tuple[Ints, Ints]:
    """Return, for each piece, the window in which it is farthest from the edges, and its position there."""
    place = np.arange(pieces)[None] - starts[:, None]  # windows, pieces
    distance = np.minimum(place, room - 1 - place)  # negative outside a window
    # the ends of the text itself do not count as edges: nothing is cut off there
    distance = np.where((starts[:, None] == 0) & (place < room), np.maximum(distance, room - 1 - place), distance)
    distance = np.where((starts[:, None] + room >= pieces) & (place >= 0), np.maximum(distance, place), distance)
    row = distance.argmax(0)
    return row, place[row, np.arange(pieces)]
