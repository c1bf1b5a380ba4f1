"""Batches of token sequences, packed into one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradual.data.task_files import source_numbers
from gradual.nn.pieces import Pieces, lay_out

Ints = npt.NDArray[np.int64]


@dataclass
class Prompts:
    """What generation starts from.

    Attributes:
        ids: Token ids, padded on the left, shape ``(n, P)``.
        mask: 1 for tokens, 0 for padding, same shape.
        answers: The texts to compare with what is generated; None where unknown.
    """

    ids: Tensor
    mask: Tensor
    answers: list[str | None]


@dataclass
class TokenBatch:
    """Sequences of tokens, of which ``K`` have a loss.

    Attributes:
        pieces: The tokens.
        before: For each token with a loss, the place of the token before it in ``pieces.ids``, shape ``(K,)``.
        targets: The tokens with a loss, shape ``(K,)``.
        example: For each of them, its example, an index into ``ids``; shape ``(K,)``.
        ids: The ids of the examples.
        prompts: What generation starts from, one for each example; None in training and validation.
        source: The number of each example's source, shape ``(n,)``; None where sources have no names.
    """

    pieces: Pieces
    before: Tensor
    targets: Tensor
    example: Tensor
    ids: list[str]
    prompts: Prompts | None = None
    source: Tensor | None = None


class TokenCollator:
    """Makes a ``TokenBatch`` of examples with the features of ``TokenFeatures``.

    Args:
        padding: The id of the token that prompts are padded with.
        max_padding: Maximum share of padding inside attention.
    """

    def __init__(self, padding: int, max_padding: float = 0.1):
        self.padding, self.max_padding = padding, max_padding

    def __call__(self, examples: list[dict[str, Any]]) -> TokenBatch:
        """Lay out the tokens, and find those with a loss."""
        pieces = lay_out([example["input_ids"] for example in examples], max_padding=self.max_padding)
        lengths = np.fromiter((len(example["input_ids"]) for example in examples), dtype=np.int64)
        first = np.cumsum(lengths) - lengths
        has_loss = _inside([example["loss_spans"] for example in examples], first, int(lengths.sum()))
        has_loss[first] = False  # nothing predicts the first token of a sequence
        targets = torch.from_numpy(np.flatnonzero(has_loss))
        return TokenBatch(
            pieces,
            targets - 1,
            pieces.ids[targets],
            torch.from_numpy(np.repeat(np.arange(len(examples)), lengths))[targets],
            [example["id"] for example in examples],
            self._prompts(examples) if "prompt_ids" in examples[0] else None,
            source_numbers(examples),
        )

    def _prompts(self, examples: Sequence[dict[str, Any]]) -> Prompts:
        prompts = [example["prompt_ids"] for example in examples]
        lengths = np.fromiter(map(len, prompts), dtype=np.int64)
        mask = np.arange(lengths.max()) >= lengths.max() - lengths[:, None]
        padded = np.full(mask.shape, self.padding, dtype=np.int64)
        padded[mask] = _joined(prompts)
        answers = [example["answer"] for example in examples]
        return Prompts(torch.from_numpy(padded), torch.from_numpy(mask).long(), answers)


def _joined(lists: Sequence[Sequence[int]]) -> Ints:
    return np.fromiter(chain.from_iterable(lists), dtype=np.int64)


def _inside(spans: Sequence[Sequence[int]], first: Ints, tokens: int) -> npt.NDArray[np.bool_]:
    """Whether each of ``tokens`` is in a span of its sequence.

    Args:
        spans: The spans of each sequence: start, end, start, ..., counted from the start of the sequence.
        first: The first token of each sequence.
        tokens: Number of tokens.
    """
    edges = _joined(spans) + np.repeat(first, [len(each) for each in spans])
    steps = np.bincount(edges[::2], minlength=tokens + 1) - np.bincount(edges[1::2], minlength=tokens + 1)
    return np.cumsum(steps[:tokens]) > 0
