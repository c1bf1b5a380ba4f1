"""Sequences one after another in a single row: an encoder of ``transformers`` computes nothing for padding.

Only inside attention are sequences of similar length padded to a common one; that is a few per cent of the work.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gradual.layers import quick_dropout

# A row is of another length in every step. In bfloat16 on a CPU, torch and oneDNN each keep what they have prepared for
# the last 1,024 shapes, about a megabyte a shape, unless they are told otherwise before the first of them.
for _name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "64")

_TAKES_ROWS = ("bert", "camembert", "electra", "roberta", "xlm-roberta")


@dataclass
class Packing:
    """Where the sequences of a row stand.

    Attributes:
        masks: For each group of sequences of similar length, True for tokens and False for padding, shape ``(n, L)``.
        cells: For each token of the row its cell in the flattened, concatenated groups, shape ``(T,)``.
    """

    masks: list[Tensor]
    cells: Tensor

    def spread(self, rows: Tensor) -> list[Tensor]:
        """The row, shape ``(T, ...)``, as the padded sequences of each group, shape ``(n, L, ...)``; 0 in padding."""
        sizes = [mask.numel() for mask in self.masks]
        padded = rows.new_zeros(sum(sizes), *rows.shape[1:]).index_copy(0, self.cells, rows)
        return [part.unflatten(0, mask.shape) for part, mask in zip(padded.split(sizes), self.masks)]

    def gather(self, groups: list[Tensor]) -> Tensor:
        """The opposite: from ``(n, L, d)`` to ``(T, d)``."""
        return F.embedding(self.cells, torch.cat([part.flatten(0, 1) for part in groups]))

    def positions(self) -> Tensor:
        """The place of each token in its sequence, shape ``(T,)``."""
        return torch.cat([torch.arange(mask.shape[1]).expand(mask.shape).flatten() for mask in self.masks]).to(
            self.cells.device
        )[self.cells]


def take_rows(encoder: Any) -> bool:
    """Prepare an encoder for ``encode``; whether it can compute all tokens of a batch as one row."""
    # code that comes with an encoder may keep the name of the type that it is made from
    known = type(encoder).__module__.startswith("transformers.")
    can: bool = known and encoder.config.model_type in _TAKES_ROWS
    if can:
        encoder.set_attn_implementation("packed")
    return can


def encode(encoder: Any, words: Tensor, segments: Tensor | None, packing: Packing) -> Tensor:
    """Token states of sequences, shape ``(T, d)``.

    Args:
        encoder: An encoder that ``take_rows`` has prepared.
        words: Word vectors, shape ``(T, d)``.
        segments: Segment ids, shape ``(T,)``; None for an encoder without.
        packing: Where the sequences stand.
    """
    if encoder.config._attn_implementation == "packed":
        first = encoder.embeddings.position_embeddings.padding_idx  # RoBERTa counts from behind it
        positions = packing.positions() + (0 if first is None else first + 1)
        more = {} if segments is None else {"token_type_ids": segments[None]}
        states = encoder(inputs_embeds=words[None], position_ids=positions[None], packing=packing, **more)
        return states.last_hidden_state[0]
    groups = zip(packing.spread(words), packing.masks, packing.masks if segments is None else packing.spread(segments))
    return packing.gather(
        [
            encoder(
                inputs_embeds=part,
                attention_mask=mask.long(),
                **({} if segments is None else {"token_type_ids": types}),
            ).last_hidden_state
            for part, mask, types in groups
        ]
    )


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float = 0.0, scaling: float | None = None
) -> Tensor:
    """Scaled dot-product attention over the tokens of padded sequences.

    Args:
        query: Shape ``(n, heads, Q, size)``.
        key: Shape ``(n, heads, L, size)``.
        value: Same shape.
        mask: True for tokens, False for padding, shape ``(n, L)``; each sequence has a token.
        dropout: Of the attention weights.
        scaling: Factor on the products of queries and keys; None for ``size ** -0.5``.

    Returns:
        Shape ``(n, heads, Q, size)``.
    """
    if query.device.type != "cpu" or not dropout:  # with dropout torch has no fused kernel there
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None], dropout_p=dropout, scale=scaling
        )
    bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    bias = bias[:, None, None].expand(*query.shape[:2], 1, -1).flatten(0, 1)  # n * heads, 1, L
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.baddbmm(bias, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=scale)
    weights = quick_dropout(scores.softmax(-1), dropout)
    return torch.bmm(weights, value.flatten(0, 1)).unflatten(0, query.shape[:2])


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention within sequences; queries, keys and values of shape ``(1, heads, T, size)``."""
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    heads = query.shape[1]
    parts = [packing.spread(x[0].transpose(0, 1).flatten(1)) for x in (query, key, value)]
    found = []
    for mask, *rows in zip(packing.masks, *parts):
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in rows)  # n, heads, L, size
        states = attend(q, k, v, mask, dropout, scaling)
        found.append(states.transpose(1, 2).flatten(2))
    return packing.gather(found).unflatten(-1, (heads, -1))[None], None


AttentionInterface.register("packed", _packed_attention)
AttentionMaskInterface.register("packed", sdpa_mask)  # for calls without packing, such as those of a plain user
