"""Packing: all sequences of a batch in one row, so that an encoder from ``transformers`` computes nothing for padding.

Only attention, a few per cent of the work, pads: sequences of similar length to a common one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gradual.nn.fast_cpu import fast_cpu_enabled, quick_dropout

_TAKES_ROWS = ("bert", "camembert", "electra", "roberta", "xlm-roberta")


@dataclass
class Packing:
    """Where each sequence of a packed row belongs.

    Attributes:
        masks: For each group of sequences of similar length, True for tokens and False for padding, shape ``(n, L)``.
        cells: For each token of the row, the index of its cell in the flattened and concatenated groups, shape
            ``(T,)``.
    """

    masks: list[Tensor]
    cells: Tensor
    _by_head: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def spread(self, rows: Tensor) -> Tensor:
        """Put rows of shape ``(T, d)`` into their cells, with 0 as padding; shape ``(cells, d)``."""
        return rows.new_zeros(sum(mask.numel() for mask in self.masks), rows.shape[1]).index_copy(0, self.cells, rows)

    def split(self, padded: Tensor) -> list[Tensor]:
        """Split what ``spread`` returns into groups, from shape ``(cells, ...)`` to ``(n, L, ...)`` each."""
        parts = padded.split([mask.numel() for mask in self.masks])
        return [part.unflatten(0, mask.shape) for part, mask in zip(parts, self.masks)]

    def spread_heads(self, rows: Tensor) -> list[Tensor]:
        """Turn rows of shape ``(T, heads, size)`` into padded sequences, shape ``(heads, n, L, size)`` for each group.

        Each group is contiguous, as matrix products need it.
        """
        heads, size = rows.shape[1:]
        sizes = [mask.numel() * heads for mask in self.masks]
        padded = rows.new_zeros(sum(sizes), size).index_copy(0, self._of_heads(heads), rows.reshape(-1, size))
        return [part.view(heads, *mask.shape, size) for part, mask in zip(padded.split(sizes), self.masks)]

    def gather_heads(self, groups: list[Tensor]) -> Tensor:
        """Reverse ``spread_heads``: from groups of shape ``(heads, n, L, size)`` to ``(T, heads, size)``."""
        heads, size = groups[0].shape[0], groups[0].shape[-1]
        rows = torch.cat([part.reshape(-1, size) for part in groups])
        return F.embedding(self._of_heads(heads), rows).view(-1, heads, size)

    def _of_heads(self, heads: int) -> Tensor:
        """The index of each token and head in the flattened groups, computed once; shape ``(T * heads,)``."""
        if heads not in self._by_head:
            device, places, start = self.cells.device, [], 0
            for mask in self.masks:
                size = mask.numel()
                head = torch.arange(heads, device=device) * size
                places.append(start * heads + torch.arange(size, device=device)[:, None] + head)
                start += size
            self._by_head[heads] = torch.cat(places)[self.cells].flatten()
        return self._by_head[heads]

    def positions(self) -> Tensor:
        """The position of each token in its sequence, shape ``(T,)``."""
        return torch.cat([torch.arange(mask.shape[1]).expand(mask.shape).flatten() for mask in self.masks]).to(
            self.cells.device
        )[self.cells]


def take_rows(encoder: Any) -> bool:
    """Prepare an encoder for ``encode``; returns whether it can process all tokens of a batch as one row."""
    # custom code that comes with an encoder may keep the model_type that it was derived from
    known = type(encoder).__module__.startswith("transformers.")
    # as a decoder, BERT attends to earlier tokens alone
    can: bool = known and encoder.config.model_type in _TAKES_ROWS and not getattr(encoder.config, "is_decoder", False)
    if can:
        encoder.set_attn_implementation("packed")
    return can


def encode(encoder: Any, words: Tensor, segments: Tensor | None, packing: Packing) -> Tensor:
    """Compute the token states of packed sequences, shape ``(T, d)``.

    Args:
        encoder: An encoder that ``take_rows`` has prepared.
        words: Word vectors, shape ``(T, d)``.
        segments: Segment ids, shape ``(T,)``; None for an encoder without segments.
        packing: Where each sequence belongs.
    """
    if encoder.config._attn_implementation == "packed":
        first = encoder.embeddings.position_embeddings.padding_idx  # RoBERTa counts from the position after it
        positions = packing.positions() + (0 if first is None else first + 1)
        more = {} if segments is None else {"token_type_ids": segments[None]}
        states = encoder(inputs_embeds=words[None], position_ids=positions[None], packing=packing, **more)
        return states.last_hidden_state[0]
    types = None if segments is None else packing.split(packing.spread(segments[:, None])[:, 0])
    states = []
    for number, (part, mask) in enumerate(zip(packing.split(packing.spread(words)), packing.masks)):
        more = {} if types is None else {"token_type_ids": types[number]}
        found = encoder(inputs_embeds=part, attention_mask=mask.long(), **more).last_hidden_state
        states.append(found.flatten(0, 1))
    return F.embedding(packing.cells, torch.cat(states))


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float = 0.0, scaling: float | None = None
) -> Tensor:
    """Compute scaled dot-product attention over the tokens of padded sequences.

    Args:
        query: Shape ``(heads, n, Q, size)``.
        key: Shape ``(heads, n, L, size)``.
        value: Same shape.
        mask: True for tokens, False for padding, shape ``(n, L)``; each sequence has at least one token.
        dropout: Dropout probability of the attention weights.
        scaling: Factor applied to the products of queries and keys; None for ``size ** -0.5``.

    Returns:
        Shape ``(heads, n, Q, size)``.
    """
    # torch's fused kernel for a CPU has no dropout
    if query.device.type != "cpu" or not dropout or not fast_cpu_enabled():
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[None, :, None], dropout_p=dropout, scale=scaling
        )
    bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    bias = bias[:, None].repeat(len(query), 1, 1)  # heads * n, 1, L
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
    """Compute attention within each sequence; queries, keys and values have shape ``(1, heads, T, size)``."""
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    parts = [packing.spread_heads(x[0].transpose(0, 1)) for x in (query, key, value)]
    found = [attend(q, k, v, mask, dropout, scaling) for q, k, v, mask in zip(*parts, packing.masks)]
    return packing.gather_heads(found)[None], None


AttentionInterface.register("packed", _packed_attention)
AttentionMaskInterface.register("packed", sdpa_mask)  # for calls without packing, as from user code
