"""Batches of examples that are dicts, padded where their columns are lists of numbers."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

IGNORED_LABEL = -100
"""A label that torch's cross-entropy ignores."""


class PaddingCollator:
    """Makes a batch, a dict with one entry for each column of the examples.

    Lists of numbers become a tensor padded to the longest, shape (batch, longest): ``input_ids`` with the padding
    token, the label column and those named ``label`` or ``labels`` with -100, others with 0. Numbers become a tensor,
    shape (batch,); anything else remains a list.

    Args:
        tokenizer: Determines the padding token and the side it goes to; None for 0, on the right.
        label_column: A column of labels, whatever its name; None for none.
    """

    def __init__(self, tokenizer: Any = None, label_column: str | None = None):
        self.side = "right" if tokenizer is None else tokenizer.padding_side
        labels: list[str | None] = ["label", "labels", label_column]
        self.padding: dict[str | None, int] = dict.fromkeys(labels, IGNORED_LABEL)
        if tokenizer is not None:
            self.padding |= {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch."""
        return {name: self._column(name, [example[name] for example in examples]) for name in examples[0]}

    def _column(self, name: str, values: list[Any]) -> Any:
        if all(map(_is_number, values)):
            return torch.tensor(values)
        if all(isinstance(value, list) and all(map(_is_number, value)) for value in values):
            rows = [torch.tensor(value) for value in values]
            dtypes = {row.dtype for row in rows if len(row)} or {torch.long}  # an empty row has no type
            dtype = functools.reduce(torch.promote_types, dtypes)
            rows = [row.to(dtype) for row in rows]
            return pad_sequence(rows, True, self.padding.get(name, 0), self.side)
        return values


def _is_number(value: Any) -> bool:
    """Whether a tensor can hold a value."""
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63)
