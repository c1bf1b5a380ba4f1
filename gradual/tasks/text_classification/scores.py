"""Scores of text classification and of regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional import mean_squared_error, pearson_corrcoef, spearman_corrcoef
from torchmetrics.utilities import dim_zero_cat

from gradual.tasks.scores import TaskScores


class LabelScores(TaskScores):
    """Scores of labels: ``accuracy``, ``micro_f1`` and ``macro_f1``, from 0 to 1, and the mean ``loss`` of an example.

    ``accuracy`` is the share of examples whose labels are all right. ``micro_f1`` counts each label of each example.
    ``macro_f1`` is the mean F1 of the labels that examples have or are predicted to have: 0 for a label that is never
    right.

    Args:
        labels: The labels.
        per_label: Also compute ``f1/LABEL`` for each of them, 0 where it neither occurs nor is predicted.
    """

    counts: Tensor
    right: Tensor
    examples: Tensor
    loss_sum: Tensor

    def __init__(self, labels: Sequence[str], per_label: bool = False):
        super().__init__()
        self.labels, self.per_label = tuple(labels), per_label
        self.add_count("counts", len(labels), 3)  # for each label: right, predicted, in the data
        self.add_count("right")
        self.add_count("examples")
        self.add_sum("loss_sum")

    def update(self, predicted: Tensor, gold: Tensor, losses: Tensor) -> None:
        """Add a batch.

        Args:
            predicted: Which labels are predicted, booleans of shape ``(n, labels)``.
            gold: Which labels the examples have, same shape.
            losses: Loss of each example, shape ``(n,)``.
        """
        self.counts += torch.stack([(predicted & gold).sum(0), predicted.sum(0), gold.sum(0)], 1)
        self.right += (predicted == gold).all(1).sum()
        self.examples += len(gold)
        self.loss_sum += losses.detach().to(self.loss_sum.dtype).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, each a scalar."""
        right, predicted, gold = self.counts.unbind(1)
        f1 = 2 * right / (predicted + gold).clamp_min(1)
        occurs = predicted + gold > 0
        scores = {
            "loss": (self.loss_sum / self.examples.clamp_min(1)).float(),
            "accuracy": self.right / self.examples.clamp_min(1),
            "micro_f1": 2 * right.sum() / (predicted + gold).sum().clamp_min(1),
            "macro_f1": (f1 * occurs).sum() / occurs.sum().clamp_min(1),
        }
        return scores | ({f"f1/{label}": f1[at] for at, label in enumerate(self.labels)} if self.per_label else {})


class NumberScores(TaskScores):
    """Scores of numbers: ``pearson`` and ``spearman`` correlation, ``mse`` and the mean ``loss``, which is the same."""

    predicted: list[Tensor]
    gold: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("predicted", "gold"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, gold: Tensor, losses: Tensor) -> None:
        """Add a batch.

        Args:
            predicted: Predicted numbers, shape ``(n,)``.
            gold: The numbers of the data, same shape.
            losses: Squared errors, same shape.
        """
        self.predicted.append(predicted.detach().float())
        self.gold.append(gold.float())

    def compute(self) -> dict[str, Any]:
        """Return the scores by name, each a scalar; a correlation is 0 where one side does not vary."""
        zero = torch.zeros((), device=self.device)
        if not len(self.gold):
            return dict.fromkeys(("loss", "mse", "pearson", "spearman"), zero)
        predicted, gold = dim_zero_cat(self.predicted).cpu().double(), dim_zero_cat(self.gold).cpu().double()
        scores = {"mse": mean_squared_error(predicted, gold), "pearson": zero, "spearman": zero}
        if len(gold) > 1 and predicted.std() > 0 and gold.std() > 0:
            scores["pearson"], scores["spearman"] = (
                pearson_corrcoef(predicted, gold),
                spearman_corrcoef(predicted, gold),
            )
        return {name: score.to(zero) for name, score in {"loss": scores["mse"], **scores}.items()}
