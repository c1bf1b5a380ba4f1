"""The word pieces of a batch, one sequence after another, and models with a head that read them without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from gradual.nn.grouping import group_by_length
from gradual.nn.packing import Packing, take_rows


@dataclass
class Pieces:
    """Word pieces of several sequences, in the order in which they were given.

    Attributes:
        ids: Word-piece ids, shape ``(T,)``.
        segments: Segment ids, shape ``(T,)``; None where the tokenizer has none.
        first: The first word piece of each sequence, an index into ``ids``; shape ``(n,)``.
        row: The row of each sequence in the concatenated groups of ``packing``, shape ``(n,)``.
        packing: Where each word piece belongs in padded groups of sequences of similar length.
    """

    ids: Tensor
    segments: Tensor | None
    first: Tensor
    row: Tensor
    packing: Packing


def lay_out(
    ids: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None, max_padding: float = 0.1
) -> Pieces:
    """Lay out the word pieces of sequences, each of which has at least one.

    Args:
        ids: Word-piece ids of each sequence.
        segments: Segment ids of each.
        max_padding: Maximum share of padding in the groups; 1 makes a single group.
    """
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    by_length = np.argsort(-lengths, kind="stable")
    row = np.empty_like(by_length)
    row[by_length] = np.arange(len(ids))
    masks, start_of = [], np.empty(len(ids), dtype=np.int64)
    cells = 0
    for start, end in group_by_length(lengths[by_length], max_padding):
        inside = by_length[start:end]
        width = int(lengths[inside[0]])
        masks.append(torch.from_numpy(np.arange(width) < lengths[inside][:, None]))
        start_of[inside] = cells + np.arange(len(inside)) * width
        cells += len(inside) * width
    first = np.cumsum(lengths) - lengths
    place = np.arange(lengths.sum()) - np.repeat(first, lengths)  # of each word piece in its sequence
    packing = Packing(masks, torch.from_numpy(np.repeat(start_of, lengths) + place))
    types = None if segments is None else _flat(segments)
    return Pieces(_flat(ids), types, torch.from_numpy(first), torch.from_numpy(row), packing)


def _flat(parts: Sequence[Sequence[int]]) -> Tensor:
    values: npt.NDArray[np.int64] = np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])
    return torch.from_numpy(values)


def prepare_for_pieces(model: Any, by_token: bool) -> None:
    """Prepare a model with a head for ``logits_of``.

    Args:
        model: A model for token or sequence classification from ``transformers``.
        by_token: Whether its head labels each token; otherwise it labels sequences by their first token, as those of
            all encoders that can read packed rows do.
    """
    if take_rows(model) and not by_token:
        # with the first tokens alone, the head finds them where it expects the first token of each sequence
        model.base_model.encoder.register_forward_hook(_first_tokens, with_kwargs=True)


def _first_tokens(module: nn.Module, inputs: Any, arguments: dict[str, Any], outputs: Any) -> Any:
    """Keep the first token of each sequence of a packed row, shape ``(n, 1, d)`` instead of ``(1, T, d)``."""
    first = arguments.get("first_tokens")
    if first is not None:
        outputs["last_hidden_state"] = outputs.last_hidden_state[0].index_select(0, first)[:, None]
    return outputs


def logits_of(model: Any, pieces: Pieces, by_token: bool, padding: int = 0) -> Tensor:
    """Compute the logits of a model that ``prepare_for_pieces`` has prepared.

    Models whose attention can be packed compute nothing for padding. Others, such as ModernBERT, run once for each
    group of sequences of similar length.

    Args:
        model: The model, or a wrapper such as a ``PeftModel``.
        pieces: The word pieces.
        by_token: Whether the head labels each token.
        padding: The id of the token that fills up a sequence.

    Returns:
        Shape ``(T, labels)`` by token, otherwise ``(n, labels)`` in the order of the sequences.
    """
    if isinstance(model, FSDPModule):  # each call gathers weights, so all processes must make as many
        pieces = _in_one_group(pieces)
    packing = pieces.packing
    has_segments = pieces.segments is not None and getattr(model.config, "type_vocab_size", 0) > 1
    if model.config._attn_implementation == "packed":
        more: dict[str, Any] = {} if by_token else {"first_tokens": pieces.first}
        if has_segments:
            more["token_type_ids"] = pieces.segments[None]  # type: ignore[index]
        positions = packing.positions() + _first_position(model.config)
        found: Tensor = model(input_ids=pieces.ids[None], position_ids=positions[None], packing=packing, **more).logits
        return found[0] if by_token else found
    parts = packing.split(_spread(pieces.ids, packing, padding))
    types = packing.split(_spread(pieces.segments, packing, 0)) if has_segments else [None] * len(parts)
    logits = [
        model(input_ids=part, attention_mask=mask.long(), **({} if type_ is None else {"token_type_ids": type_})).logits
        for part, mask, type_ in zip(parts, packing.masks, types)
    ]
    if by_token:
        return F.embedding(packing.cells, torch.cat([part.flatten(0, 1) for part in logits]))
    return torch.cat(logits).index_select(0, pieces.row)


def _in_one_group(pieces: Pieces) -> Pieces:
    """Lay out the same word pieces in a single padded group."""
    first = pieces.first
    lengths = torch.diff(first, append=first.new_tensor([len(pieces.ids)]))
    mask = torch.arange(int(lengths.max()), device=first.device) < lengths[:, None]
    rows = torch.arange(len(first), device=first.device)
    return Pieces(pieces.ids, pieces.segments, first, rows, Packing([mask], mask.flatten().nonzero().flatten()))


def _spread(values: Tensor | None, packing: Packing, padding: int) -> Tensor:
    assert values is not None
    size = sum(mask.numel() for mask in packing.masks)
    return values.new_full((size,), padding).index_copy(0, packing.cells, values)


def _first_position(config: Any) -> int:
    """The position of a sequence's first token: RoBERTa and its kind count from the one after the padding token's."""
    counts_from_padding = config.model_type in ("camembert", "roberta", "xlm-roberta")
    return (config.pad_token_id or 0) + 1 if counts_from_padding else 0
