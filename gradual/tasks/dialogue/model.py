"""SUMBT, the Slot-Utterance Matching Belief Tracker (Lee et al., 2019), without redundant and padded computation.

Shapes: ``N`` turns in a batch, ``T`` word pieces in all of them, ``S`` slots, ``V`` the largest number of candidate
values of a slot, ``d`` the width of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradual.distributed import mean_over_processes
from gradual.nn.fast_cpu import QuickDropout, QuickLinear
from gradual.nn.packing import Packing, attend, encode, take_rows
from gradual.tasks.dialogue.features import MISSING, TurnBatch


class SlotAttention(nn.Module):
    """Multi-head attention from every slot to the word pieces of every turn.

    Keys and values do not depend on the slot, so they are projected once per turn, and queries once per batch.

    Args:
        width: ``d``.
        heads: Number of heads, which must divide ``width``.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (QuickLinear(width, width) for _ in range(4))

    def forward(self, slots: Tensor, states: Tensor, packing: Packing) -> Tensor:
        """Attend to the turns.

        Args:
            slots: Slot vectors, shape ``(S, d)``.
            states: States of word pieces, shape ``(T, d)``.
            packing: Which turn each of them belongs to.

        Returns:
            The output for each turn and slot, in the order of the groups, shape ``(N, S, d)``.
        """
        query = self._heads(self.query(slots)).transpose(0, 1)[:, None]  # heads, 1, S, d / heads
        parts = [packing.spread_heads(self._heads(layer(states))) for layer in (self.key, self.value)]
        found = [
            attend(query.expand(-1, len(mask), -1, -1), key, value, mask)  # heads, n, S, d / heads
            for key, value, mask in zip(*parts, packing.masks)
        ]
        return self.output(torch.cat(found, dim=1).permute(1, 2, 0, 3).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class BeliefTracker(nn.Module):
    """A GRU over turns, shared by all slots, whose outputs are compared with value vectors.

    Args:
        width: ``d``.
        hidden: Width of the GRU.
        dropout: Dropout rate on its initial state and on its outputs.
    """

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.start = QuickLinear(width, hidden)
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.output = QuickLinear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = QuickDropout(dropout)
        for name, parameter in self.gru.named_parameters():
            if "weight" in name:
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, found: Tensor, active: Sequence[int]) -> Tensor:
        """Track the slots over turns.

        Args:
            found: The output of the slot attention, in packed order, shape ``(N, S, d)``.
            active: The number of dialogues that have a first turn, a second turn, and so on.

        Returns:
            Belief vectors, shape ``(N, S, d)``.
        """
        slots = found.shape[1]
        start = self.dropout(F.relu(self.start(found[: active[0]].flatten(0, 1))))
        # each slot of each dialogue is a sequence; turns in packed order need no further packing
        packed = PackedSequence(found.flatten(0, 1), torch.tensor(active) * slots)
        tracked = self.gru(packed, start[None])[0].data
        return self.norm(self.output(self.dropout(tracked))).unflatten(0, (-1, slots))


class Sumbt(nn.Module):
    """Scores every candidate value of every slot at every turn.

    Slots and values are represented by vectors from a frozen encoder, which are computed once and set by
    ``set_vectors``; the frozen encoder itself is not part of the model. The vectors are parameters, frozen unless
    ``requires_grad`` is set.

    Args:
        encoder: A pretrained encoder from ``transformers``, to be fine-tuned.
        heads: Number of heads of the slot attention.
        hidden: Width of the belief tracker.
        distance: ``euclidean`` (as in the paper) or ``cosine``.

    Attributes:
        slot_vectors: Slot vectors, shape ``(S, d)``; None before ``set_vectors``.
        value_vectors: Value vectors, shape ``(S, V, d)``, padded with zeros.
        value_mask: Which of them are values of the slot, shape ``(S, V)``.
    """

    slot_vectors: nn.Parameter | None
    value_vectors: nn.Parameter | None
    value_mask: Tensor | None

    def __init__(
        self, encoder: Any, heads: int = 4, hidden: int = 300, distance: Literal["euclidean", "cosine"] = "euclidean"
    ):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        take_rows(encoder)
        self.attention = SlotAttention(width, heads)
        self.tracker = BeliefTracker(width, hidden, getattr(encoder.config, "hidden_dropout_prob", 0.1))
        self.distance = distance
        self.uses_segments = getattr(encoder.config, "type_vocab_size", 0) > 1
        for name in ("slot_vectors", "value_vectors"):
            self.register_parameter(name, None)
        self.register_buffer("value_mask", None)

    def set_vectors(self, slots: Tensor, values: Sequence[Tensor]) -> None:
        """Set the slot and value vectors, frozen.

        Args:
            slots: Slot vectors, shape ``(S, d)``.
            values: One tensor of value vectors per slot, shape ``(values of the slot, d)``.
        """
        padded = nn.utils.rnn.pad_sequence(list(values), batch_first=True)
        self.slot_vectors, self.value_vectors = (nn.Parameter(x, requires_grad=False) for x in (slots, padded))
        counts = torch.tensor([len(vectors) for vectors in values], device=slots.device)
        self.value_mask = torch.arange(padded.shape[1], device=slots.device) < counts[:, None]

    def forward(self, batch: TurnBatch) -> Tensor:
        """Return logits of all candidate values, ``-inf`` for padding; shape ``(N, S, V)``, turns in packed order."""
        assert self.slot_vectors is not None
        packing = Packing([group.attention_mask.bool() for group in batch.groups], batch.cells)
        ids, segments = (
            torch.cat([getattr(group, name).flatten() for group in batch.groups])[batch.cells]
            for name in ("input_ids", "token_type_ids")
        )
        words = self.encoder.get_input_embeddings()(
            ids
        )  # a single look-up, as its gradient has the size of the vocabulary
        states = encode(self.encoder, words, segments if self.uses_segments else None, packing)
        found = self.attention(self.slot_vectors, states, packing)
        return self.score(self.tracker(found[batch.order], batch.active))

    def score(self, beliefs: Tensor) -> Tensor:
        """Score candidate values, shape ``(N, S, V)``, by their proximity to belief vectors, shape ``(N, S, d)``."""
        assert self.value_vectors is not None
        assert self.value_mask is not None
        by_slot = beliefs.transpose(0, 1)  # S, N, d
        if self.distance == "cosine":
            logits = F.normalize(by_slot, dim=-1) @ F.normalize(self.value_vectors, dim=-1).transpose(1, 2)
        else:
            logits = -_distances(by_slot, self.value_vectors)
        return logits.masked_fill(~self.value_mask[:, None], -torch.inf).transpose(0, 1)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Compute Euclidean distances between ``x``, shape ``(S, N, d)``, and ``y``, shape ``(S, V, d)``.

    Uses at least single precision, since small distances are differences of large squares. ``torch.cdist`` does the
    same with matrix products, but copies ``y`` and computes its gradient in every step.

    Returns:
        Distances, shape ``(S, N, V)``.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, y = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in (x, y))
        squares = [torch.linalg.vecdot(z, z) for z in (x, y)]
        squared = torch.baddbmm(squares[1][:, None], x, y.transpose(1, 2), alpha=-2) + squares[0][..., None]
        return squared.clamp_min(1e-12).sqrt()  # rounding errors can make it negative, and the slope is infinite at 0


def turn_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of each turn and slot, 0 for missing labels; shape ``(N, S)``."""
    losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=MISSING, reduction="none")
    return losses.view_as(labels)


def batch_loss(losses: Tensor, labels: Tensor) -> Tensor:
    """Average over the turns with a known label for each slot, and sum over slots.

    In distributed training, the average of this loss (and of its gradient) over processes equals the loss of all their
    turns in one batch, even if the turns are distributed unevenly.
    """
    known = mean_over_processes((labels != MISSING).sum(0))
    return (losses.sum(0) / known.where(known > 0, 1)).sum()
