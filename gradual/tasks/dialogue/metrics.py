"""Slot and joint accuracy, on the target domain and on all slots, and the loss that the paper selects models by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradual.tasks.dialogue.features import MISSING
from gradual.tasks.scores import TaskScores


def dialogue_scores(
    predicted: Tensor, labels: Tensor, dialogue: Tensor, ids: Sequence[str], target: Tensor
) -> list[dict[str, Any]]:
    """Return the accuracies of each dialogue as ``[numerator, denominator]``, which significance tests resample.

    Args:
        predicted: Value indices, shape ``(turns, slots)``.
        labels: Value indices or ``MISSING``, same shape.
        dialogue: For each turn, the index of its dialogue in ``ids``.
        ids: The ids of the dialogues.
        target: Indices of the target domain's slots.
    """
    known, correct, joints = _agreement(predicted, labels, target)
    columns = []
    for slots, joint, some in joints:
        columns += [correct[:, slots].sum(1), known[:, slots].sum(1), joint, some]
    counts = torch.stack([column.long() for column in columns], dim=1)
    sums = counts.new_zeros(len(ids), len(columns)).index_add_(0, dialogue, counts).tolist()
    names = ("slot_accuracy", "joint_accuracy", "slot_accuracy_all", "joint_accuracy_all")
    return [
        {"id": id_, **{name: row[2 * index : 2 * index + 2] for index, name in enumerate(names)}}
        for id_, row in zip(ids, sums)
    ]


def _agreement(
    predicted: Tensor, labels: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """Compare predictions with labels.

    Returns:
        Which labels are known, and which of them are predicted correctly, both of shape ``(turns, slots)``. Then, for
        the target domain's slots and for all slots: their indices, the turns in which all known labels are predicted
        correctly, and the turns that have any known label.
    """
    known = labels != MISSING
    correct = (predicted == labels) & known
    joints = []
    for slots in (target, torch.arange(known.shape[1], device=known.device)):
        some = known[:, slots].any(1)
        joints.append((slots, (correct | ~known)[:, slots].all(1) & some, some))
    return known, correct, joints


class BeliefScores(TaskScores):
    """Scores of belief states over all batches and processes.

    ``slot_accuracy`` is the share of (turn, slot) pairs predicted correctly, ``joint_accuracy`` the share of turns with
    all slots correct. Both are computed on the target domain's slots and, with the suffix ``_all``, on all slots.
    ``loss`` is the mean cross-entropy of each slot over its turns, summed over slots. Missing labels are ignored, and
    joint accuracies ignore turns without any label.

    Args:
        slots: Names of all slots.
        target: Indices of the target domain's slots.
        per_slot: Also compute ``slot_accuracy/NAME`` for each slot of the target domain.
    """

    target: Tensor
    correct: Tensor
    known: Tensor
    loss_sum: Tensor
    joint: Tensor
    turns: Tensor

    def __init__(self, slots: Sequence[str], target: Sequence[int], per_slot: bool = False):
        super().__init__()
        self.slots, self.per_slot = tuple(slots), per_slot
        self.register_buffer("target", torch.tensor(list(target)), persistent=False)
        for name in ("correct", "known"):
            self.add_count(name, len(slots))
        self.add_sum("loss_sum", len(slots))
        for name in ("joint", "turns"):  # on the target domain's slots, on all slots
            self.add_count(name, 2)

    def update(self, predicted: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Add a batch.

        Args:
            predicted: Value indices, shape ``(turns, slots)``.
            labels: Value indices or ``MISSING``, same shape.
            losses: Cross-entropies, 0 for missing labels, same shape.
        """
        known, correct, joints = _agreement(predicted, labels, self.target)
        self.correct += correct.sum(0)
        self.known += known.sum(0)
        self.loss_sum += losses.detach().to(self.loss_sum.dtype).sum(0)
        for which, (_, joint, some) in enumerate(joints):
            self.joint[which] += joint.sum()
            self.turns[which] += some.sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, each a scalar."""
        joint = self.joint / self.turns.clamp_min(1)
        scores = {
            "loss": (self.loss_sum / self.known.clamp_min(1)).sum().float(),
            "slot_accuracy": self.correct[self.target].sum() / self.known[self.target].sum().clamp_min(1),
            "joint_accuracy": joint[0],
            "slot_accuracy_all": self.correct.sum() / self.known.sum().clamp_min(1),
            "joint_accuracy_all": joint[1],
        }
        if self.per_slot:
            accuracies = self.correct / self.known.clamp_min(1)
            scores |= {f"slot_accuracy/{self.slots[s]}": accuracies[s] for s in self.target.tolist()}
        return scores
