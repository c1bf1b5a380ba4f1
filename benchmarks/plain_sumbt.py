"""SUMBT computed the plain way, as its published code computes it, as a reference for the package's model.

Every turn is padded to 64 word pieces and every dialogue to the longest one of its file, of at most 22 turns; the token
states are repeated for every slot before keys and values are projected; the candidate values are repeated for every
turn, slot by slot. The encoder computes attention, GELU and layer normalisation step by step, as the library of that
code did where it had no CUDA extension for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradual.tasks.dialogue.features import MISSING, EncodedDialogue
from gradual.tasks.dialogue.model import Sumbt


class PaddedBatch(NamedTuple):
    """``D`` dialogues of ``T`` turns of ``L`` word pieces each, including padding.

    Attributes:
        input_ids: Shape ``(D, T, L)``.
        token_type_ids: Same shape.
        attention_mask: Same shape.
        labels: Shape ``(D, T, slots)``, ``MISSING`` in padding turns.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def pad(dialogues: Sequence[EncodedDialogue], turns: int, length: int, pad_token_id: int) -> PaddedBatch:
    """Pad dialogues to a batch as the published code does."""
    shape = (len(dialogues), turns, length)
    ids = torch.full(shape, pad_token_id)
    types, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full((len(dialogues), turns, dialogues[0].labels.shape[1]), MISSING)
    for d, dialogue in enumerate(dialogues):
        labels[d, : len(dialogue.tokens)] = torch.from_numpy(dialogue.labels.astype("int64"))
        for t, (tokens, segments) in enumerate(zip(dialogue.tokens, dialogue.segments)):
            ids[d, t, : len(tokens)] = torch.from_numpy(tokens.astype("int64"))
            types[d, t, : len(tokens)] = torch.from_numpy(segments.astype("int64"))
            mask[d, t, : len(tokens)] = 1
    return PaddedBatch(ids, types, mask, labels)


class PlainGelu(nn.Module):
    """GELU by its formula; every intermediate step is kept for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """GELU of every element."""
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))


class PlainLayerNorm(nn.Module):
    """Layer normalisation by its formula.

    Args:
        norm: The layer whose parameters to use.
    """

    def __init__(self, norm: nn.LayerNorm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.pow(2).mean(-1, keepdim=True)
        return self.weight * (centred / torch.sqrt(variance + self.eps)) + self.bias


def compute_stepwise(encoder: nn.Module) -> None:
    """Make a BERT compute its activations and layer normalisations by their formulas."""
    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.LayerNorm):
                setattr(parent, name, PlainLayerNorm(child))
            elif name == "intermediate_act_fn":
                setattr(parent, name, PlainGelu())


class PlainSumbt(nn.Module):
    """Computes the model as its published code does, with Euclidean distances.

    Args:
        model: The model whose weights and vectors to use. Its encoder is set to compute attention step by step, as was
            usual then, and as turns that consist only of padding require.
        stepwise: Whether to compute GELU and layer normalisation by their formulas, too, instead of torch's own.
    """

    def __init__(self, model: Sumbt, stepwise: bool = True):
        super().__init__()
        self.encoder, self.tracker = model.encoder, model.tracker
        self.encoder.set_attn_implementation("eager")
        if stepwise:
            compute_stepwise(self.encoder)
        self.query, self.key, self.value = model.attention.query, model.attention.key, model.attention.value
        self.output, self.heads = model.attention.output, model.attention.heads
        assert model.slot_vectors is not None
        assert model.value_vectors is not None
        assert model.value_mask is not None
        self.slots = model.slot_vectors.detach()
        self.values = [vectors[mask] for vectors, mask in zip(model.value_vectors, model.value_mask)]

    def forward(self, batch: PaddedBatch) -> Tensor:
        """The loss of a batch."""
        dialogues, turns, length = batch.input_ids.shape
        slots, d = self.slots.shape
        mask = batch.attention_mask.view(-1, length)
        states = self.encoder(
            batch.input_ids.view(-1, length), attention_mask=mask, token_type_ids=batch.token_type_ids.view(-1, length)
        ).last_hidden_state
        states = (states * mask[:, :, None]).repeat(slots, 1, 1)  # slots * dialogues * turns, length, d
        queries = self.slots.repeat(1, dialogues * turns).view(-1, 1, d)
        found = self.attend(queries, states, mask[:, None, None].repeat(slots, 1, 1, 1))
        found = found.view(slots * dialogues, turns, d)
        start = self.tracker.dropout(F.relu(self.tracker.start(found[:, 0])))
        tracked = self.tracker.gru(found, start[None])[0]
        beliefs = self.tracker.norm(self.tracker.output(self.tracker.dropout(tracked)))
        beliefs = beliefs.view(slots, dialogues, turns, d)
        losses = []
        for slot, values in enumerate(self.values):
            count = len(values)
            repeated = values.repeat(dialogues * turns, 1)  # dialogues * turns * values, d
            belief = beliefs[slot, :, :, None].repeat(1, 1, count, 1).view(-1, d)
            logits = -F.pairwise_distance(belief, repeated).view(-1, count)
            labels = batch.labels[:, :, slot].flatten()
            total = F.cross_entropy(logits, labels, ignore_index=MISSING, reduction="sum")
            losses.append(total / (labels != MISSING).sum().clamp_min(1))
        return torch.stack(losses).sum()

    def attend(self, queries: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Attention of one query per row, shape ``(rows, 1, d)``, over that row's states, shape ``(rows, L, d)``."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, queries), (self.key, states), (self.value, states))
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(mask == 0, -1e9).softmax(-1)
        return self.output((weights @ value).transpose(1, 2).flatten(2))
