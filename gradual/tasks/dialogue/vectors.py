"""Vectors of short texts, such as names of slots and values, from a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

_MAX_LENGTH = 32  # word pieces of a text


def tokenized_alike(tokenizer: Any, texts: Sequence[str]) -> list[list[str]]:
    """Groups of different texts that have the same word pieces, and therefore the same vectors."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for text in dict.fromkeys(texts):
        pieces = tokenizer(text, truncation=True, max_length=_MAX_LENGTH)["input_ids"]
        groups.setdefault(tuple(pieces), []).append(text)
    return [group for group in groups.values() if len(group) > 1]


@torch.no_grad()
def text_vectors(
    encoder: Any,
    tokenizer: Any,
    texts: Sequence[str],
    pooling: Literal["cls", "mean"],
    batch_size: int = 256,
) -> Tensor:
    """Encode short texts as last-layer states: of the first word piece, or averaged over all of them.

    Returns:
        Vectors of shape ``(texts, d)``, on the CPU.
    """
    encoder.eval()
    vectors = torch.empty(len(texts), encoder.config.hidden_size)
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(texts), batch_size):
        rows = by_length[start : start + batch_size]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=_MAX_LENGTH, return_tensors="pt"
        ).to(encoder.device)
        states = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = states[:, 0] if pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
        vectors[rows] = pooled.float().cpu()
    return vectors
