"""Scores of tagged words: precision, recall and F1 of spans, and the accuracy of tags that are no spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradual.tasks.scores import TaskScores
from gradual.tasks.token_classification.spans import SpanTags, count_spans


class SpanScores(TaskScores):
    """Precision, recall and F1 of spans over all batches and processes, micro-averaged, and the mean loss of a word.

    ``precision``, ``recall`` and ``f1``, from 0 to 1, and 0 if the denominator is 0. A predicted span is correct if a
    gold span has the same words and the same type.

    Args:
        tags: All tags.
        per_type: Also return these three for each type, as ``f1/PER`` and the like.
    """

    counts: Tensor
    loss_sum: Tensor
    words: Tensor

    def __init__(self, tags: Sequence[str], per_type: bool = False):
        super().__init__()
        self.tags, self.per_type = SpanTags.of(tags), per_type
        self.add_count("counts", max(1, len(self.tags.types)), 3)  # for each type: correct, predicted, gold
        self.add_sum("loss_sum")
        self.add_count("words")

    def update(self, predicted: Tensor, gold: Tensor, sentence: Tensor, loss: Tensor) -> None:
        """Add a batch, without waiting for a GPU.

        Args:
            predicted: The predicted tag of each word, shape ``(W,)``; the words of all sentences one after the other.
            gold: The gold tags, same shape.
            sentence: The sentence of each word, same shape.
            loss: The loss summed over words, a scalar.
        """
        found, right = (self.tags.spans(tags, sentence) for tags in (predicted, gold))
        self.counts += count_spans(found, right, (found.type, right.type), len(self.counts))
        self.loss_sum += loss.detach().to(self.loss_sum.dtype)
        self.words += len(gold)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, each a scalar."""
        scores = {"loss": (self.loss_sum / self.words.clamp_min(1)).float(), **_ratios(self.counts.sum(0))}
        if self.per_type:
            for type_, counts in zip(self.tags.types, self.counts):
                scores |= {f"{name}/{type_}": value for name, value in _ratios(counts).items()}
        return scores

    def of_examples(
        self, predicted: Tensor, gold: Tensor, sentence: Tensor, ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return the F1 of each sentence as ``[2 * correct, predicted + gold]``, for significance tests to resample.

        Args:
            predicted: The predicted tag of each word, as in ``update``.
            gold: The gold tags.
            sentence: The index of each word's sentence in ``ids``.
            ids: The ids of the sentences.
        """
        found, right = (self.tags.spans(tags, sentence) for tags in (predicted, gold))
        counts = count_spans(found, right, (sentence, sentence), len(ids))
        pairs = torch.stack([2 * counts[:, 0], counts[:, 1] + counts[:, 2]], 1).tolist()
        return [{"id": id_, "f1": pair} for id_, pair in zip(ids, pairs)]


class TagScores(TaskScores):
    """Accuracy of tags over all batches and processes, and the mean loss of a word."""

    right: Tensor
    loss_sum: Tensor
    words: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_count("right")
        self.add_sum("loss_sum")
        self.add_count("words")

    def update(self, predicted: Tensor, gold: Tensor, sentence: Tensor, loss: Tensor) -> None:
        """Add a batch; the arguments are those of ``SpanScores.update``."""
        self.right += (predicted == gold).sum()
        self.loss_sum += loss.detach().to(self.loss_sum.dtype)
        self.words += len(gold)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, each a scalar."""
        words = self.words.clamp_min(1)
        return {"loss": (self.loss_sum / words).float(), "accuracy": self.right / words}

    def of_examples(
        self, predicted: Tensor, gold: Tensor, sentence: Tensor, ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return the accuracy of each sentence as ``[right, words]``; the arguments are those of ``SpanScores``."""
        counts = torch.zeros(len(ids), 2, dtype=torch.long, device=gold.device)
        each = torch.stack([(predicted == gold).long(), torch.ones_like(gold)], 1)
        pairs = counts.index_add_(0, sentence, each).tolist()
        return [{"id": id_, "accuracy": pair} for id_, pair in zip(ids, pairs)]


def _ratios(counts: Tensor) -> dict[str, Tensor]:
    right, predicted, gold = counts
    return {
        "precision": right / predicted.clamp_min(1),
        "recall": right / gold.clamp_min(1),
        "f1": 2 * right / (predicted + gold).clamp_min(1),
    }
