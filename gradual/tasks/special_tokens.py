"""The special tokens of a tokenizer, and those that targets spell out, which stay in generated texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

MARKERS = "markers"
"""The feature with the special tokens that a target spells out: their ids, separated by spaces."""


def special_tokens(tokenizer: Any) -> dict[int, str]:
    """Return the text of each special token, by its id."""
    return {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def markers_of(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Find the special tokens that targets spell out, as markers of their own do, such as ``<sep>``.

    Tokens that frame every text are none: those for padding, beginning and end, and what the tokenizer adds to targets.

    Args:
        tokenizer: A fast tokenizer.
        texts: The targets.

    Returns:
        For each of them the feature ``MARKERS``.
    """
    frame = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
    frame |= {*tokenizer(text_target="", verbose=False)["input_ids"]}
    ids = {text: number for number, text in special_tokens(tokenizer).items() if number not in frame}
    if not ids:
        return [""] * len(texts)
    longest_first = sorted(ids, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return [" ".join(str(ids[token]) for token in sorted({*pattern.findall(text)})) for text in texts]


def joined_markers(columns: Iterable[Any]) -> set[int]:
    """Return the ids in columns of the feature ``MARKERS``, each a ``pyarrow.ChunkedArray``."""
    return {int(number) for column in columns for found in column.unique().to_pylist() for number in found.split()}
