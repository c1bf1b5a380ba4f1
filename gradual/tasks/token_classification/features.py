"""Sentences to features and batches: split into word pieces once, laid out without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradual.data.features import LENGTH, Features, RowError
from gradual.data.task_files import source_numbers
from gradual.nn.pieces import Pieces, lay_out
from gradual.nn.windows import NoPiecesError, split_words
from gradual.tasks.token_classification.tag_columns import rewritten


@dataclass(frozen=True)
class TagFeatures(Features):
    """Splits words into word pieces, in windows where a sentence has too many, and numbers their tags.

    Attributes:
        tags: The tags, in the order of their numbers; empty for examples whose tags are not read.
        longest: Maximum number of word pieces in a window; None for no limit.
        schema: The schema of the part's tags.
        scheme: The scheme in which spans are written first; None to leave the tags as they are.
        keep_words: Whether the words are kept, for predictions.
    """

    tags: tuple[str, ...]
    longest: int | None
    schema: int
    scheme: str | None = None
    keep_words: bool = False

    def __call__(self, rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the features of sentences.

        ``pieces`` are the word pieces of all windows, ``windows`` the length of each window, ``word`` the word piece
        that stands for each word, its first one, in the window with the most context on both sides.
        """
        sentences = rows["tokens"]
        for position, words in enumerate(sentences):
            if None in words:
                raise RowError(position, f"token {words.index(None) + 1} is null")
        try:
            split = split_words(sentences, self.tokenizer, self.longest)
        except NoPiecesError as error:
            raise RowError(error.sentence, str(error).rstrip(".")) from None
        found: dict[str, list[Any]] = {name: [] for name in ("pieces", "windows", "word", LENGTH)}
        for position, sentence in enumerate(split):
            sizes = np.array([len(window) for window in sentence.windows])
            if not sizes.all():
                raise RowError(position, "the sentence has no words")
            first = np.searchsorted(sentence.word, np.arange(len(sentences[position])))
            starts = np.cumsum(sizes) - sizes
            found["pieces"].append(np.concatenate(sentence.windows).tolist())
            found["windows"].append(sizes.tolist())
            found["word"].append((starts[sentence.row[first]] + sentence.column[first]).tolist())
            found[LENGTH].append(int(sizes.sum()))
        found["schema"] = [self.schema] * len(sentences)
        if self.tags:
            found["tags"] = self._numbers(sentences, rows["tags"])
        if self.keep_words:
            found["words"] = sentences
        return found

    def _numbers(self, sentences: Sequence[Sequence[str]], rows: Sequence[Sequence[Any]]) -> list[list[int]]:
        for position, (words, tags) in enumerate(zip(sentences, rows)):
            if len(words) != len(tags):
                raise RowError(position, f"the sentence has {len(words)} tokens, but {len(tags)} tags")
            if None in tags:
                raise RowError(position, f"token {tags.index(None) + 1} has no tag")
        number = {tag: at for at, tag in enumerate(self.tags)}
        texts: list[list[str]] = [list(map(str, tags)) for tags in rows]
        return [
            [number[tag] for tag in tags] for tags in (texts if self.scheme is None else rewritten(self.scheme, texts))
        ]


@dataclass
class TagBatch:
    """Sentences with their tags; ``n`` sentences of ``W`` words in all.

    Attributes:
        pieces: The word pieces of all windows.
        word: The word piece that stands for each word, an index into ``pieces.ids``; shape ``(W,)``.
        sentence: The sentence of each word, shape ``(W,)``.
        tags: The number of each word's tag, shape ``(W,)``; None where the data has no tags.
        schema: The schema of each sentence's tags, shape ``(n,)``.
        ids: The ids of the sentences.
        words: The words of each sentence; None where they are not needed.
        source: The number of each sentence's source, shape ``(n,)``; None where sources have no names.
    """

    pieces: Pieces
    word: Tensor
    sentence: Tensor
    tags: Tensor | None
    schema: Tensor
    ids: list[str]
    words: list[list[str]] | None
    source: Tensor | None = None


class TagCollator:
    """Makes a ``TagBatch`` from examples.

    Args:
        max_padding: Maximum share of padding inside attention; there is none anywhere else in encoders that can read
            packed rows.
    """

    def __init__(self, max_padding: float = 0.1):
        self.max_padding = max_padding

    def __call__(self, examples: list[dict[str, Any]]) -> TagBatch:
        """Lay out the word pieces, and find those of the words."""
        windows: list[list[int]] = []
        for example in examples:
            ends = accumulate(example["windows"])
            windows += [example["pieces"][end - size : end] for size, end in zip(example["windows"], ends)]
        sizes = np.array([len(example["pieces"]) for example in examples])
        words = np.array([len(example["word"]) for example in examples])
        first = np.repeat(np.cumsum(sizes) - sizes, words)
        return TagBatch(
            lay_out(windows, max_padding=self.max_padding),
            torch.from_numpy(_flat(examples, "word") + first),
            torch.from_numpy(np.repeat(np.arange(len(examples)), words)),
            torch.from_numpy(_flat(examples, "tags")) if "tags" in examples[0] else None,
            torch.tensor([example["schema"] for example in examples]),
            [example["id"] for example in examples],
            [example["words"] for example in examples] if "words" in examples[0] else None,
            source_numbers(examples),
        )


def _flat(examples: Sequence[Mapping[str, Any]], name: str) -> Any:
    return np.concatenate([np.asarray(example[name], dtype=np.int64) for example in examples])
