"""SUMBT, the Slot-Utterance Matching Belief Tracker (Lee et al., 2019), without its repeated and padded work.

Shapes: ``N`` real turns of a batch, ``T`` word pieces of all of them, ``S`` slots, ``V`` candidate values of the slot
that has most, ``d`` the encoder's width.
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
    """Multi-head attention of every slot over the word pieces of every turn.

    Keys and values do not depend on the slot: they are projected once a turn, and the queries once a batch.

    Args:
        width: ``d``.
        heads: Number of heads, a divisor of ``width``.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (QuickLinear(width, width) for _ in range(4))

    def forward(self, slots: Tensor, states: Tensor, packing: Packing) -> Tensor:
        """Attend.

        Args:
            slots: Slot vectors, shape ``(S, d)``.
            states: Token states, shape ``(T, d)``.
            packing: Where the turns stand among them.

        Returns:
            What each slot found in each turn, in the order of the groups, shape ``(N, S, d)``.
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
    """A GRU over turns, its weights shared by all slots, that ends in a vector to compare values with.

    Args:
        width: ``d``.
        hidden: Width of the GRU.
        dropout: Of its initial state and of its output.
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
        """Track.

        Args:
            found: What the slots found in the turns, in packed order, shape ``(N, S, d)``.
            active: How many dialogues have a first turn, a second, and so on.

        Returns:
            Belief vectors, shape ``(N, S, d)``.
        """
        slots = found.shape[1]
        start = self.dropout(F.relu(self.start(found[: active[0]].flatten(0, 1))))
        # every slot of every dialogue is a sequence of its own; turns in packed order are already packed
        packed = PackedSequence(found.flatten(0, 1), torch.tensor(active) * slots)
        tracked = self.gru(packed, start[None])[0].data
        return self.norm(self.output(self.dropout(tracked))).unflatten(0, (-1, slots))


class Sumbt(nn.Module):
    """Scores every candidate value of every slot at every turn.

    The slot and value vectors are those of a frozen encoder, computed once; ``set_vectors`` puts them in place, and
    only they are kept.

    Args:
        encoder: A pretrained encoder of ``transformers``; fine-tuned.
        heads: Heads of the slot attention.
        hidden: Width of the belief tracker.
        distance: ``euclidean`` (the paper's) or ``cosine``.

    Attributes:
        slot_vectors: Shape ``(S, d)``; None before ``set_vectors``.
        value_vectors: Shape ``(S, V, d)``, zero beyond a slot's own values.
        value_mask: True for a slot's own values, shape ``(S, V)``.
    """

    slot_vectors: Tensor | None
    value_vectors: Tensor | None
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
        for name in ("slot_vectors", "value_vectors", "value_mask"):
            self.register_buffer(name, None)

    def set_vectors(self, slots: Tensor, values: Sequence[Tensor]) -> None:
        """Put slot and value vectors in place.

        Args:
            slots: Shape ``(S, d)``.
            values: One tensor for each slot, shape ``(values of the slot, d)``.
        """
        self.slot_vectors = slots
        self.value_vectors = nn.utils.rnn.pad_sequence(list(values), batch_first=True)
        counts = torch.tensor([len(vectors) for vectors in values], device=slots.device)
        self.value_mask = torch.arange(self.value_vectors.shape[1], device=slots.device) < counts[:, None]

    def forward(self, batch: TurnBatch) -> Tensor:
        """Logits of all candidate values, ``-inf`` beyond a slot's own; shape ``(N, S, V)``, turns in packed order."""
        assert self.slot_vectors is not None
        packing = Packing([group.attention_mask.bool() for group in batch.groups], batch.cells)
        ids, segments = (
            torch.cat([getattr(group, name).flatten() for group in batch.groups])[batch.cells]
            for name in ("input_ids", "token_type_ids")
        )
        words = self.encoder.get_input_embeddings()(ids)  # one look-up: its gradient is as large as the vocabulary
        states = encode(self.encoder, words, segments if self.uses_segments else None, packing)
        found = self.attention(self.slot_vectors, states, packing)
        return self.score(self.tracker(found[batch.order], batch.active))

    def score(self, beliefs: Tensor) -> Tensor:
        """Closeness of belief vectors, shape ``(N, S, d)``, to the candidate values, shape ``(N, S, V)``."""
        assert self.value_vectors is not None
        assert self.value_mask is not None
        by_slot = beliefs.transpose(0, 1)  # S, N, d
        if self.distance == "cosine":
            logits = F.normalize(by_slot, dim=-1) @ F.normalize(self.value_vectors, dim=-1).transpose(1, 2)
        else:
            logits = -_distances(by_slot, self.value_vectors)
        return logits.masked_fill(~self.value_mask[:, None], -torch.inf).transpose(0, 1)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances of ``x``, shape ``(S, N, d)``, to ``y``, shape ``(S, V, d)``; shape ``(S, N, V)``.

    At least in single precision, since near distances are small differences of large squares.

    ``torch.cdist`` by matrix products does the same, but copies ``y`` and computes a gradient for it in every step.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, y = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in (x, y))
        squares = [torch.linalg.vecdot(z, z) for z in (x, y)]
        squared = torch.baddbmm(squares[1][:, None], x, y.transpose(1, 2), alpha=-2) + squares[0][..., None]
        return squared.clamp_min(1e-12).sqrt()  # rounding may end below zero, and at zero the slope has no end


def turn_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every turn and slot, 0 where the label is missing; shape ``(N, S)``."""
    losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=MISSING, reduction="none")
    return losses.view_as(labels)


def batch_loss(losses: Tensor, labels: Tensor) -> Tensor:
    """For each slot the mean over its known turns, summed over slots.

    In a distributed run the mean over processes of this loss, and so of its gradient, is the loss of all their turns as
    one batch, however unevenly these are spread.
    """
    known = mean_over_processes((labels != MISSING).sum(0))
    return (losses.sum(0) / known.where(known > 0, 1)).sum()
