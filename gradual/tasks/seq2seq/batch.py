"""Batches of pairs of texts, in groups of pairs of similar length."""

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
from gradual.nn.grouping import group_by_length

IGNORED = -100
"""The label of padding, as in ``transformers``."""

Ints = npt.NDArray[np.int64]


@dataclass
class Group:
    """Pairs of similar length.

    Attributes:
        rows: The pairs, indices into the batch, shape ``(k,)``.
        source: Number of tokens of the longest source.
        target: Number of tokens of the longest target.
    """

    rows: Tensor
    source: int
    target: int


@dataclass
class PairBatch:
    """Sources and targets, padded at the end.

    Attributes:
        source: Token ids of the sources, shape ``(n, S)``.
        mask: 1 for their tokens, 0 for padding, same shape.
        labels: Token ids of the targets, ``IGNORED`` for padding, shape ``(n, T)``; None where the data has none.
        groups: The same pairs in groups, each with little padding.
        ids: The ids of the pairs.
        answers: The targets as text; None where they are not needed.
        source_number: The number of each pair's source of data, shape ``(n,)``; None where these have no names.
    """

    source: Tensor
    mask: Tensor
    labels: Tensor | None
    groups: list[Group]
    ids: list[str]
    answers: list[str] | None
    source_number: Tensor | None = None


class PairCollator:
    """Makes a ``PairBatch`` of examples with the features of ``PairFeatures``.

    Args:
        padding: The id of the token that fills up sources.
        max_padding: Maximum share of padding in the groups; 1 for a single group.
    """

    def __init__(self, padding: int, max_padding: float):
        self.padding, self.max_padding = padding, max_padding

    def __call__(self, examples: list[dict[str, Any]]) -> PairBatch:
        """Pad and group the pairs."""
        sources, source_mask = _padded([example["input_ids"] for example in examples], self.padding)
        lengths = [source_mask.sum(1)]
        labels = None
        if "labels" in examples[0]:
            labels, target_mask = _padded([example["labels"] for example in examples], IGNORED)
            lengths.append(target_mask.sum(1))
        return PairBatch(
            torch.from_numpy(sources),
            torch.from_numpy(source_mask.astype(np.int64)),
            None if labels is None else torch.from_numpy(labels),
            self._groups(np.stack(lengths, 1)),
            [example["id"] for example in examples],
            [example["answer"] for example in examples] if "answer" in examples[0] else None,
            source_numbers(examples),
        )

    def _groups(self, lengths: Ints) -> list[Group]:
        order = np.argsort(-lengths.sum(1), kind="stable")
        groups = []
        for start, end in group_by_length(lengths[order], self.max_padding):
            rows = order[start:end]
            source, target = (*lengths[rows].max(0), 0)[:2]
            groups.append(Group(torch.from_numpy(rows), int(source), int(target)))
        return groups


def _padded(lists: Sequence[Sequence[int]], value: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Pad lists at the end; returns them, and which cells are no padding."""
    lengths = np.fromiter(map(len, lists), dtype=np.int64)
    mask = np.arange(lengths.max()) < lengths[:, None]
    cells = np.full(mask.shape, value, dtype=np.int64)
    cells[mask] = np.fromiter(chain.from_iterable(lists), dtype=np.int64)
    return cells, mask
