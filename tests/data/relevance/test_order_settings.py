"""Settings of an order, what an order needs, and what is refused."""

import pytest
from relevance_data import POOL, TARGET, Texts, module

from gradual import InputError, MixedDomainDataModule
from gradual.data.relevance.settings import Order


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("best", "order.by is 'best': it must be"),
        (5, "order is 5: it must be an Order, a mapping or text"),
        ({"by": "ngrams", "nose": 1}, "order has no setting 'nose'.*Did you mean 'noise'"),
        ({"by": "ngrams", "noise": -1}, "order.noise is -1.0: it must be a number of at least 0"),
        ({"by": "uniform", "noise": 1}, "a uniform order is chance alone"),
        ({"by": "column"}, "order.column is not set"),
        ({"by": "ngrams", "column": "x"}, "only an order by column has it"),
        ({"by": "classifier", "encoder": "x"}, "only an order by embedding has it"),
    ],
)
def test_orders_that_cannot_be_meant(order, says):
    with pytest.raises(InputError, match=says):
        MixedDomainDataModule([1], [2], order=order)


def test_what_an_order_needs():
    with pytest.raises(InputError, match="needs the text of each example, but out_of_domain has none: pass text_of"):
        MixedDomainDataModule(TARGET, POOL, schedule=[1], order="ngrams").sample()
    with pytest.raises(InputError, match="needs an encoder: set order"):
        module("relevance")
    with pytest.raises(InputError, match="at least 2 in-domain examples, but there are 1"):
        module("classifier", target=["one"])
    with pytest.raises(InputError, match="out_of_domain has no column 'score'"):
        module({"by": "column", "column": "score"})
    pool = Texts(POOL)
    pool.score = ["high"] * 10
    with pytest.raises(InputError, match="the column 'score' must hold a number for each example"):
        module({"by": "column", "column": "score"}, pool)


def test_scikit_learn_is_missed_in_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.linear_model", None)
    with pytest.raises(InputError, match=r"pip install 'gradual\[relevance\]'"):
        module("classifier")


def test_relevance_stands_for_the_embedding():
    assert Order.of("relevance") == Order.of({"by": "relevance"}) == Order("embedding")
    assert Order.of({"by": "relevance", "noise": 1}).noise == 1.0
    assert Order.of({"noise": 0.5}).by == "embedding"
