"""chrF and BLEU from counts against sacrebleu, for single texts and for all texts together."""

import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradual.tasks.seq2seq.corpus_scores import bleu, bleu_counts, chrf, chrf_counts
from gradual.tasks.seq2seq.scores import MEANS, SCORES, PairScores, compared

texts = st.text(st.sampled_from("ab c.é"), max_size=14)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)


def together(counts):
    return [sum(each) for each in zip(*counts)]


@given(pairs)
def test_scores_are_those_of_sacrebleu(pairs):
    generated, answers = map(list, zip(*pairs))
    for text, answer in pairs:
        assert chrf(chrf_counts(text, answer)) == pytest.approx(sacrebleu.sentence_chrf(text, [answer]).score / 100)
    found = chrf(together(chrf_counts(*pair) for pair in pairs))
    assert found == pytest.approx(sacrebleu.corpus_chrf(generated, [answers]).score / 100)
    found = bleu(together(bleu_counts(*pair) for pair in pairs))
    assert found == pytest.approx(sacrebleu.corpus_bleu(generated, [answers]).score / 100)


def test_scores_by_hand():
    assert chrf_counts("ab", "abc")[:9] == [2, 3, 2, 1, 2, 1, 0, 1, 0]
    # of one character 2/2 and 2/3, of two 1/1 and 1/2; longer ones are in one of the texts only
    precision, recall = 1, (2 / 3 + 1 / 2) / 2
    assert chrf(chrf_counts("ab", "abc")) == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert bleu_counts("a b c d e", "a b c d f") == [5, 5, 4, 3, 2, 1, 5, 4, 3, 2]
    assert bleu(bleu_counts("a b c d e", "a b c d f")) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


@given(pairs, st.integers(1, 4))
def test_batches_add_up(pairs, size):
    whole, parts = PairScores(), PairScores()
    generated, answers = zip(*pairs)
    losses, tokens = torch.arange(len(pairs)).double(), torch.arange(len(pairs)) + 1
    whole.update(losses, tokens, compared(generated, answers, SCORES))
    for at in range(0, len(pairs), size):
        here = slice(at, at + size)
        parts.update(losses[here], tokens[here], compared(generated[here], answers[here], SCORES))
    found = whole.compute()
    assert {*found} == {"loss", *SCORES}
    for name, value in parts.compute().items():
        torch.testing.assert_close(value, found[name])
    torch.testing.assert_close(found["loss"], (losses.sum() / tokens.sum()).float())


@pytest.mark.parametrize("names", [(), ("bleu",), ("rougeL", "sentence_chrf"), ("chrf", "exact_match")])
def test_only_what_was_asked_for_is_computed(names):
    texts = compared(["a b", "c"], ["a", "c"], names)
    assert tuple(texts) == names
    assert all(values.shape == (2,) for name, values in texts.items() if name in MEANS)
    scores = PairScores()
    scores.update(torch.ones(2), torch.ones(2, dtype=torch.long), texts)
    assert {*scores.compute()} == {"loss", *names}
