"""Texts to features and batches: tokenized once, laid out without padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gradual.data.features import Features, RowError
from gradual.data.task_files import source_numbers
from gradual.nn.pieces import Pieces, lay_out
from gradual.tasks.text_classification.labels import Target, name_of

_LARGEST = 1e15  # squares of such numbers, and sums of these, are finite in single precision


@dataclass(frozen=True)
class TextFeatures(Features):
    """Tokenizes texts, or pairs of them, and numbers their labels.

    Attributes:
        target: What is predicted.
        labels: The labels, in the order of their numbers.
        longest: Maximum number of word pieces; None for no limit.
        schema: The schema of the part's labels.
        end: The token at which the model reads off its result, which no text may hold; None for models that read it
            off elsewhere.
    """

    version: ClassVar[int] = 3

    target: Target
    labels: tuple[str, ...]
    longest: int | None
    schema: int
    end: int | None = None

    def __call__(self, rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return ``input_ids``, ``token_type_ids`` where the tokenizer has them, ``schema`` and ``label``."""
        texts = [rows[name] for name in ("text", "text_pair") if name in rows]
        encoded = self.tokenizer(
            *texts, truncation=self.longest is not None, max_length=self.longest, return_attention_mask=False
        )
        found = {name: encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded}
        for position, pieces in enumerate(found["input_ids"]):
            if not pieces:
                raise RowError(position, "the text has no word pieces")
        if self.end is not None:
            self._check_ends(found["input_ids"], self.end, len(texts))
        found["schema"] = [self.schema] * len(texts[0])
        if "label" in rows:
            found["label"] = self._labels(rows["label"])
        return found

    def _check_ends(self, encoded: list[list[int]], end: int, texts: int) -> None:
        """Check that rows of so many texts each have the tokens of an end that the tokenizer adds, and no more."""
        added = self.tokenizer(*[[""]] * texts)["input_ids"][0].count(end)
        for position, pieces in enumerate(encoded):
            if pieces.count(end) != added:
                token = self.tokenizer.convert_ids_to_tokens(end)
                raise RowError(position, f"the text holds '{token}', by which this model finds the end of a text")

    def _labels(self, values: list[Any]) -> list[Any]:
        if self.target == "number":
            for position, value in enumerate(values):
                if not abs(value) <= _LARGEST:  # which nan is not, either
                    raise RowError(position, f"its label is {value}: it must be a number from -1e15 to 1e15")
            return values
        number = {label: at for at, label in enumerate(self.labels)}
        if self.target == "label":
            return [number[name_of(value)] for value in values]
        for position, several in enumerate(values):
            if None in several:
                raise RowError(position, "one of its labels is null")
        return [sorted({number[str(value)] for value in several}) for several in values]


@dataclass
class TextBatch:
    """Texts with their labels.

    Attributes:
        pieces: The word pieces.
        gold: Which labels each text has, booleans of shape ``(n, labels)``; for numbers, shape ``(n,)``. None where the
            data has no labels.
        schema: The schema of each text's labels, shape ``(n,)``.
        ids: The ids of the texts.
        source: The number of each text's source, shape ``(n,)``; None where sources have no names.
    """

    pieces: Pieces
    gold: Tensor | None
    schema: Tensor
    ids: list[str]
    source: Tensor | None = None


class TextCollator:
    """Makes a ``TextBatch`` from examples.

    Args:
        target: What is predicted.
        labels: Number of labels.
        max_padding: Maximum share of padding inside attention; there is none anywhere else in encoders that can read
            packed rows.
    """

    def __init__(self, target: Target, labels: int, max_padding: float = 0.1):
        self.target, self.labels, self.max_padding = target, labels, max_padding

    def __call__(self, examples: list[dict[str, Any]]) -> TextBatch:
        """Lay out the word pieces and mark the labels."""
        ids = [example["input_ids"] for example in examples]
        segments = [example["token_type_ids"] for example in examples] if "token_type_ids" in examples[0] else None
        return TextBatch(
            lay_out(ids, segments, self.max_padding),
            self._gold([example["label"] for example in examples]) if "label" in examples[0] else None,
            torch.tensor([example["schema"] for example in examples]),
            [example["id"] for example in examples],
            source_numbers(examples),
        )

    def _gold(self, values: list[Any]) -> Tensor:
        if self.target == "number":
            return torch.tensor(values, dtype=torch.float32)
        gold = torch.zeros(len(values), self.labels, dtype=torch.bool)
        for row, value in enumerate(values):
            gold[row, value] = True
        return gold
