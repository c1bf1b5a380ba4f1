"""Columns of tags: which tags a part of the data has, and in which scheme its spans are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gradual.tasks.token_classification.spans import SchemeEvidence, SpanTags, tag_of, written_in

if TYPE_CHECKING:  # it comes with gradual[files] only
    import pyarrow as pa

_ROWS = 10_000  # read at once


def find_scheme(column: pa.ChunkedArray, tags: Sequence[str]) -> SchemeEvidence:
    """Collect what a column says about the scheme of its spans.

    Args:
        column: Lists of tags, as text or integers.
        tags: The tags that occur, as text.
    """
    evidence, known = SchemeEvidence.of(tags), SpanTags.of(tags)
    for numbers, sentence in _numbered(column, tags):
        evidence.add(known.position[numbers], known.type[numbers], sentence)
    return evidence


def tags_in(scheme: str, column: pa.ChunkedArray, tags: Sequence[str]) -> list[str]:
    """Return the tags that a column has once its spans are written in another scheme, sorted.

    Args:
        scheme: The scheme.
        column: Lists of tags, as text or integers.
        tags: The tags that occur, as text.
    """
    known = SpanTags.of(tags)
    found: set[tuple[int, int]] = set()
    for numbers, sentence in _numbered(column, tags):
        spans = known.spans(numbers, sentence)
        pairs = torch.stack([written_in(scheme, spans, sentence), spans.type * spans.inside], 1)
        found |= set(map(tuple, pairs.unique(dim=0).tolist()))
    return sorted(tag_of(position, known.types[type_], scheme) for position, type_ in found)


def rewritten(scheme: str, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Write the spans of sentences in another scheme."""
    tags = sorted({tag for sentence in sentences for tag in sentence})
    known, number = SpanTags.of(tags), {tag: at for at, tag in enumerate(tags)}
    flat = torch.tensor([number[tag] for sentence in sentences for tag in sentence], dtype=torch.long)
    owner = torch.arange(len(sentences)).repeat_interleave(torch.tensor([len(sentence) for sentence in sentences]))
    spans = known.spans(flat, owner)
    types = known.types or ("",)
    written = iter(
        [
            tag_of(position, types[type_], scheme)
            for position, type_ in zip(written_in(scheme, spans, owner).tolist(), spans.type.tolist())
        ]
    )
    return [list(islice(written, len(sentence))) for sentence in sentences]


def _numbered(column: pa.ChunkedArray, tags: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pieces of a column: the tag of each word as an index into ``tags``, and its sentence."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pa.array(tags, pa.string())
    for start in range(0, len(column), _ROWS):
        for chunk in column.slice(start, _ROWS).chunks:
            words = chunk.flatten().cast(pa.string())
            sizes = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
            numbers = pc.fill_null(pc.index_in(words, value_set=values), 0).to_numpy(zero_copy_only=False)
            sentence = np.repeat(np.arange(len(chunk)), sizes)
            yield torch.from_numpy(numbers.astype(np.int64)), torch.from_numpy(sentence)
