"""Scores of sequence-to-sequence models: how probable targets are, and how well generated ones agree with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradual.tasks.generation import TEXT_SCORES, text_scores
from gradual.tasks.scores import TaskScores
from gradual.tasks.seq2seq.corpus_scores import BLEU_COUNTS, CHRF_COUNTS, bleu, bleu_counts, chrf, chrf_counts

MEANS = (*TEXT_SCORES, "sentence_chrf")
"""Scores that are means over texts."""
SCORES = (*MEANS, "chrf", "bleu")
"""All scores of texts. ``chrf`` and ``bleu`` are those of all texts together, as sacrebleu computes them."""
FROM_SACREBLEU = ("sentence_chrf", "chrf", "bleu")

_WHOLE = {"chrf": (CHRF_COUNTS, chrf), "bleu": (BLEU_COUNTS, bleu)}


def compared(generated: Sequence[str], answers: Sequence[str], names: Sequence[str]) -> dict[str, Tensor]:
    """Compare generated texts with the targets of the data.

    Args:
        generated: The texts.
        answers: What they should be.
        names: The scores to compute, of ``SCORES``.

    Returns:
        For each of ``MEANS`` among the names, the score of each text, from 0 to 1, shape ``(n,)``; for ``chrf`` and
        ``bleu`` the counts that they are computed from, shape ``(n, counts)``.
    """
    found: dict[str, Tensor] = {}
    pairs = list(zip(generated, answers, strict=True))
    by_text = [name for name in TEXT_SCORES if name in names]
    if by_text:
        found |= dict(zip(by_text, text_scores(generated, answers, by_text).unbind(1)))
    if "chrf" in names or "sentence_chrf" in names:
        counts = [chrf_counts(*pair) for pair in pairs]
        found["sentence_chrf"] = torch.tensor([chrf(each) for each in counts], dtype=torch.float64)
        found["chrf"] = torch.tensor(counts)
    if "bleu" in names:
        found["bleu"] = torch.tensor([bleu_counts(*pair) for pair in pairs])
    return {name: found[name] for name in names}


class PairScores(TaskScores):
    """``loss``, the mean negative log likelihood of a token of the targets, and the scores of generated texts.

    These are there if texts were generated, from 0 to 1: means over texts for ``MEANS``, otherwise scores of all texts
    together.
    """

    loss_sum: Tensor
    tokens: Tensor
    sums: Tensor
    texts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("loss_sum")
        self.add_count("tokens")
        self.add_sum("sums", len(MEANS))
        self.add_count("texts", len(SCORES))
        for name, (size, _) in _WHOLE.items():
            self.add_count(f"{name}_counts", size)

    def update(self, losses: Tensor, tokens: Tensor, texts: Mapping[str, Tensor] | None = None) -> None:
        """Add a batch.

        Args:
            losses: The sum of the losses of each target's tokens, shape ``(n,)``.
            tokens: Their number, same shape.
            texts: What ``compared`` returned.
        """
        self.loss_sum += losses.detach().to(self.loss_sum.dtype).sum()
        self.tokens += tokens.sum()
        for name, values in (texts or {}).items():
            self.texts[SCORES.index(name)] += len(values)
            if name in _WHOLE:
                counts = getattr(self, f"{name}_counts")
                counts += values.to(counts).sum(0)
            else:
                self.sums[MEANS.index(name)] += values.to(self.sums).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name, each a scalar."""
        scores = {"loss": (self.loss_sum / self.tokens.clamp_min(1)).float()}
        for name, total, count in zip(MEANS, self.sums, self.texts):
            if count:
                scores[name] = (total / count).float()
        for name, count in zip(SCORES[len(MEANS) :], self.texts[len(MEANS) :]):
            if count:
                counts = getattr(self, f"{name}_counts").tolist()
                scores[name] = self.loss_sum.new_tensor(_WHOLE[name][1](counts)).float()
        return scores
