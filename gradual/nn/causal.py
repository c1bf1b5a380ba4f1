"""Causal language models on packed rows: all sequences of a batch in one row, each attending to itself only.

Nothing is computed for padding. Only attention, a few per cent of the work, pads: sequences of similar length to a
common one. Its cost grows with the squares of the lengths of the sequences, not with that of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gradual.nn.fast_cpu import fast_cpu_enabled, quick_dropout
from gradual.nn.packing import Packing

_NAME = "packed_causal"
# decoders that take positions and pass what they do not know on to attention, and whose head is a linear layer
_TAKES_ROWS = (
    *("arcee", "ernie4_5", "exaone4", "gemma", "gemma3_text", "glm", "glm4", "gpt2", "gpt_neox", "helium", "llama"),
    *("mistral", "olmo", "olmo2", "olmo3", "opt", "phi", "phi3", "qwen2", "qwen3", "seed_oss", "smollm3", "starcoder2"),
)
# settings that only attention of another kind supports
_UNSUPPORTED = ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")


def take_rows(model: Any) -> bool:
    """Prepare a causal language model for ``states_at``; returns whether it can process packed rows."""
    # custom code that comes with a model may keep the model_type that it was derived from
    known = type(model).__module__.startswith("transformers.") and model.config.model_type in _TAKES_ROWS
    can = known and not any(getattr(model.config, name, None) for name in _UNSUPPORTED)
    if can:
        model.set_attn_implementation(_NAME)
        model.get_decoder().register_forward_hook(_keep_states, with_kwargs=True)
    return can


def takes_rows(model: Any) -> bool:
    """Whether ``take_rows`` has prepared a model, or what is inside its wrapper."""
    return bool(model.config._attn_implementation == _NAME)


def states_at(model: Any, tokens: Tensor, packing: Packing, places: Tensor) -> Tensor:
    """Compute the states of packed sequences that the head of a causal language model turns into logits.

    The model runs as a whole, but with nothing for its head to do.

    Args:
        model: A model that ``take_rows`` has prepared, or a wrapper around it.
        tokens: Token ids, shape ``(T,)``.
        packing: Where each sequence belongs.
        places: The tokens whose states to return, shape ``(K,)``.

    Returns:
        The states of the last layer, shape ``(K, d)``.
    """
    # transformers passes masks of four dimensions on as they are; without one, it would make a mask of T x T
    no_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=tokens.device)
    kept = _Kept(places)
    model(
        input_ids=tokens[None],
        attention_mask=no_mask,
        position_ids=packing.positions()[None],
        packing=packing,
        kept=kept,
        use_cache=False,
    )
    assert kept.states is not None
    return kept.states


@dataclass
class _Kept:
    """The states of some tokens of a packed row."""

    places: Tensor
    states: Tensor | None = None


def _keep_states(module: nn.Module, inputs: Any, arguments: dict[str, Any], outputs: Any) -> Any:
    """Keep the states that were asked for, and give the head those of no token."""
    kept = arguments.get("kept")
    if kept is not None:
        states = outputs.last_hidden_state[0]
        kept.states = states.index_select(0, kept.places)
        outputs["last_hidden_state"] = states[None, :0]
    return outputs


def attend_causally(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Compute scaled dot-product attention of each token to itself and those before it.

    Args:
        query: Shape ``(heads, n, L, size)``.
        key: Same shape.
        value: Same shape. Where sequences are padded, the padding must come last.
        dropout: Dropout probability of the attention weights.
        scaling: Factor applied to the products of queries and keys; None for ``size ** -0.5``.
        window: The number of tokens that a token attends to at most, itself included; None for all.

    Returns:
        Shape ``(heads, n, L, size)``; what padding attends to is meaningless.
    """
    length = query.shape[-2]
    window = length if window is None else window
    banded = window < length
    # torch's fused kernel for a CPU has no dropout
    by_hand = query.device.type == "cpu" and dropout > 0 and fast_cpu_enabled()
    if not by_hand and not banded:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling, is_causal=True)
    distance = torch.arange(length, device=query.device)
    distance = distance[:, None] - distance
    allowed = (distance >= 0) & (distance < window) if banded else distance >= 0
    if not by_hand:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout, scale=scaling)
    bias = torch.zeros(allowed.shape, dtype=query.dtype).masked_fill(~allowed, -torch.inf)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.baddbmm(bias, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=scale)
    weights = quick_dropout(scores.softmax(-1), dropout)
    return torch.bmm(weights, value.flatten(0, 1)).unflatten(0, query.shape[:2])


def _packed_causal_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute attention within each sequence; queries, keys and values have shape ``(1, heads, T, size)``."""
    if packing is None:  # as while generating
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    sharing = query.shape[1] // key.shape[1]  # heads that share keys and values
    queries, keys, values = (packing.spread_heads(x[0].transpose(0, 1)) for x in (query, key, value))
    found = [
        attend_causally(q, _repeated(k, sharing), _repeated(v, sharing), dropout, scaling, sliding_window)
        for q, k, v in zip(queries, keys, values)
    ]
    return packing.gather_heads(found)[None], None


def _repeated(heads: Tensor, times: int) -> Tensor:
    return heads if times == 1 else heads.repeat_interleave(times, 0)


AttentionInterface.register(_NAME, _packed_causal_attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)
