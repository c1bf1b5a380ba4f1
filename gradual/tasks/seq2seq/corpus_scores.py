"""chrF (Popović, 2015) and BLEU (Papineni et al., 2002), as sacrebleu computes them, from counts that can be summed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # sacrebleu comes with gradual[text] only
    from sacrebleu.metrics import BLEU

_CHARACTERS = 6  # the longest sequence of characters that chrF counts
_BETA_SQUARED = 4  # recall has twice the weight of precision
_WORDS = 4  # the longest sequence of words that BLEU counts

CHRF_COUNTS = 3 * _CHARACTERS
BLEU_COUNTS = 2 + 2 * _WORDS


def chrf_counts(text: str, answer: str) -> list[int]:
    """Count the sequences of 1 to 6 characters: in the text, in the answer and in both, for each length.

    White space does not count. Sequences that are too long for the answer are not counted in the text, either.
    """
    from sacrebleu.metrics.helpers import extract_all_char_ngrams

    counts = []
    for found, wanted in zip(*(extract_all_char_ngrams(each, _CHARACTERS) for each in (text, answer))):
        counts += [found.total() if wanted else 0, wanted.total(), (found & wanted).total()]
    return counts


def chrf(counts: Sequence[int]) -> float:
    """Compute chrF from what ``chrf_counts`` returned, or from sums of it: from 0 to 1."""
    orders = [counts[at : at + 3] for at in range(0, CHRF_COUNTS, 3)]
    counted = [order for order in orders if order[0] and order[1]]
    if not counted:
        return 0.0
    precision = sum(both / found for found, _, both in counted) / len(counted)
    recall = sum(both / wanted for _, wanted, both in counted) / len(counted)
    if not precision + recall:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (_BETA_SQUARED * precision + recall)


def bleu_counts(text: str, answer: str) -> list[int]:
    """Count the words of text and answer, then the sequences of 1 to 4 words: those in both, and those in the text."""
    score = _bleu().sentence_score(text, [answer])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def bleu(counts: Sequence[int]) -> float:
    """Compute BLEU from sums of what ``bleu_counts`` returned: from 0 to 1."""
    found, wanted, *sequences = counts
    score = _bleu().compute_bleu(sequences[:_WORDS], sequences[_WORDS:], found, wanted, smooth_method="exp")
    return float(score.score) / 100


@cache
def _bleu() -> BLEU:
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)  # which matters for sentences only, where sacrebleu asks for it
