"""Scores of language models: how probable texts are, and how well generated ones agree with those of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from gradual.tasks.generation import TEXT_SCORES
from gradual.tasks.scores import TaskScores


class LanguageScores(TaskScores):
    """``loss``, the mean negative log likelihood of a token, and ``perplexity``, its exponential.

    If texts were generated, also ``exact_match``, ``rouge1``, ``rouge2`` and ``rougeL`` (see
    ``gradual.tasks.generation``), their means over these texts, from 0 to 1.
    """

    loss_sum: Tensor
    tokens: Tensor
    text_sums: Tensor
    texts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("loss_sum")
        self.add_count("tokens")
        self.add_sum("text_sums", len(TEXT_SCORES))
        self.add_count("texts")

    def update(self, losses: Tensor, texts: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            losses: The negative log likelihood of each token with a loss, shape ``(K,)``.
            texts: The scores of each generated text, in the order of ``TEXT_SCORES``, shape ``(n, scores)``.
        """
        self.loss_sum += losses.detach().to(self.loss_sum.dtype).sum()
        self.tokens += len(losses)
        if texts is not None:
            self.text_sums += texts.to(self.text_sums).sum(0)
            self.texts += len(texts)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, each a scalar."""
        loss = self.loss_sum / self.tokens.clamp_min(1)
        scores = {"loss": loss.float(), "perplexity": torch.exp(loss).float()}
        if self.texts:
            scores |= dict(zip(TEXT_SCORES, (self.text_sums / self.texts).float()))
        return scores
