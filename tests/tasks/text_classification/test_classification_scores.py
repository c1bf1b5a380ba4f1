"""Scores of labels and numbers, against scikit-learn and scipy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from gradual.tasks.text_classification.scores import LabelScores, NumberScores


@given(st.data())
def test_scores_of_labels_are_those_of_scikit_learn(data):
    labels, count = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 12))
    several = data.draw(st.booleans())
    one = st.lists(st.booleans(), min_size=labels, max_size=labels)
    if not several:
        one = st.integers(0, labels - 1).map(lambda at: [at == other for other in range(labels)])
    predicted, gold = (torch.tensor(data.draw(st.lists(one, min_size=count, max_size=count))) for _ in range(2))
    metric = LabelScores(list(map(str, range(labels))), per_label=True)
    losses = torch.arange(float(count))
    for part in torch.arange(count).split(5):
        metric.update(predicted[part], gold[part], losses[part])
    found = {name: value.item() for name, value in metric.compute().items()}
    if several:
        truth, guess = gold.numpy(), predicted.numpy()
        occurs = [at for at in range(labels) if (gold | predicted)[:, at].any()]
    else:
        truth, guess = gold.int().argmax(1).numpy(), predicted.int().argmax(1).numpy()
        occurs = sorted({*truth.tolist(), *guess.tolist()})
    expected = {"loss": losses.mean().item(), "accuracy": accuracy_score(truth, guess)}
    average = {name: f1_score(truth, guess, labels=occurs, average=name, zero_division=0) if occurs else 0.0
               for name in ("micro", "macro")}  # fmt: skip
    each = f1_score(truth, guess, labels=list(range(labels)), average=None, zero_division=0)
    expected |= {f"{name}_f1": value for name, value in average.items()}
    expected |= {f"f1/{at}": value for at, value in enumerate(each)}
    assert found == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=20))
def test_scores_of_numbers_are_those_of_scipy(pairs):
    predicted, gold = (torch.tensor(side, dtype=torch.float32) / 3 for side in zip(*pairs))
    metric = NumberScores()
    for part in torch.arange(len(pairs)).split(6):
        metric.update(predicted[part], gold[part], (predicted - gold)[part].square())
    found = {name: value.item() for name, value in metric.compute().items()}
    error = sum((a - b) ** 2 for a, b in zip(predicted.tolist(), gold.tolist())) / len(pairs)
    expected = {"loss": error, "mse": error, "pearson": 0.0, "spearman": 0.0}
    if len(set(predicted.tolist())) > 1 and len(set(gold.tolist())) > 1:
        expected["pearson"] = stats.pearsonr(predicted, gold).statistic
        expected["spearman"] = stats.spearmanr(predicted, gold).statistic
    assert found == pytest.approx(expected, abs=1e-5)


def test_nothing_scored_is_zero():
    assert {*map(float, NumberScores().compute().values())} == {0.0}
    assert {*map(float, LabelScores(["a", "b"]).compute().values())} == {0.0}
