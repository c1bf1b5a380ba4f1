"""Scores of relevance against naive computations: n-grams, a classifier, an embedding, a column."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from relevance_data import POOL, TARGET, WORDS, Texts, files, module, order_of
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from slow_cases import fast_one_in
from tiny_models import write_model
from transformers import AutoModel, AutoTokenizer

from gradual import MixedDomainDataModule
from gradual.data.order import draw
from gradual.data.relevance import ngrams
from gradual.data.relevance.of_data import corpora, pool_scores
from gradual.data.relevance.tokens import Tokens
from gradual.tasks import TextClassificationData, TokenClassificationData


def naive_ngrams(text):
    words = text.split()
    return Counter([*words, *map(" ".join, pairwise(words))])


def test_ngrams_are_scored_as_by_hand():
    """With so few n-grams none of 10,000 hash values has two of them."""
    target, pool = (sum(map(naive_ngrams, texts), Counter()) for texts in (TARGET, POOL))
    sizes = [sum(counts.values()) + 10_000 for counts in (target, pool)]
    wanted = []
    for text in POOL:
        logs = [
            count * (math.log((target[gram] + 1) / sizes[0]) - math.log((pool[gram] + 1) / sizes[1]))
            for gram, count in naive_ngrams(text).items()
        ]
        wanted.append(sum(logs) / sum(naive_ngrams(text).values()))
    data = module("ngrams")
    assert pool_scores(data, data.order) == pytest.approx(wanted, rel=1e-5)
    assert order_of(data) == sorted(range(10), key=lambda at: -wanted[at])


@given(st.lists(st.lists(st.integers(0, 30), max_size=6), min_size=1, max_size=6))
def test_every_unigram_and_bigram_is_hashed_once(lists):
    example, values = ngrams.hashed_ngrams(Tokens.of(lists), 1 << 40)
    wanted = Counter()
    for at, ids in enumerate(lists):
        wanted.update((at, gram) for gram in [*ids, *pairwise(ids)])
    found = Counter(zip(example.tolist(), values.tolist()))
    assert sorted(found.values()) == sorted(wanted.values())
    assert len({value for _, value in found}) == len({gram for _, gram in wanted})


def test_a_classifier_scores_each_example_by_a_model_that_has_not_seen_it():
    data = module("classifier")
    ours = normalize(DictVectorizer().fit_transform(map(naive_ngrams, [*TARGET, *POOL])))
    wanted = np.zeros(10)
    folds = 4  # as there are four in-domain examples
    for fold in range(folds):
        rows = [at for at in range(4) if at % folds != fold] + [4 + at for at in range(10) if at % folds != fold]
        model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
        model.fit(ours[rows], [int(row < 4) for row in rows])
        held_out = [at for at in range(10) if at % folds == fold]
        wanted[held_out] = model.decision_function(ours[[4 + at for at in held_out]])
    assert pool_scores(data, data.order) == pytest.approx(wanted, abs=2e-2)
    assert order_of(data) == np.argsort(-wanted, kind="stable").tolist()


def test_an_example_never_changes_the_model_that_scores_it():
    """A duplicate of an in-domain example in the pool is not given away by the model having seen it as pool."""
    changed = [*POOL[:6], "zebra zebra zebra", *POOL[7:]]
    one, other = (
        pool_scores(data, data.order) for data in (module("classifier"), module("classifier", Texts(changed)))
    )
    same = [at for at in range(10) if at % 4 == 6 % 4 and at != 6]
    assert np.array_equal(one[same], other[same]), "their model has not seen the example that was changed"
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("given_encoder", [False, True])
def test_an_embedding_is_the_cosine_of_mean_hidden_states(tmp_path, given_encoder):
    encoder = write_model(tmp_path / "bert", "bert", WORDS)
    plain, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)

    def vector(text):
        with torch.no_grad():
            state = plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).double()
        return state / state.norm()

    target = sum(map(vector, TARGET))
    wanted = [float(vector(text) @ (target / target.norm())) for text in POOL]
    if given_encoder:
        data = module({"by": "embedding", "encoder": encoder})
    else:
        data = files(tmp_path, TextClassificationData, encoder, "relevance")
    assert pool_scores(data, data.order) == pytest.approx(wanted, abs=1e-5)
    assert order_of(data) == sorted(range(10), key=lambda at: -wanted[at])


@pytest.mark.parametrize("data_class", fast_one_in(2, [TextClassificationData, TokenClassificationData]))
@pytest.mark.parametrize("by", ["ngrams", "classifier"])
def test_files_are_scored_by_the_tokens_in_the_cache(tmp_path, monkeypatch, data_class, by):
    monkeypatch.setattr(ngrams, "BUCKETS", 1 << 22)  # so that no two n-grams share a hash value
    encoder = write_model(tmp_path / "bert", "bert", WORDS)
    data = files(tmp_path, data_class, encoder, by)
    _, sources = corpora(data)
    assert sources[""].read(0, 10).lists() == AutoTokenizer.from_pretrained(encoder)(POOL)["input_ids"]
    assert sources[""].texts(3, 5) == POOL[3:5]
    # each word of a text is a token here; those that mark its ends become words
    marked = (Texts([f"cls {text} sep" for text in texts]) for texts in (TARGET, POOL))
    by_text = MixedDomainDataModule(*marked, schedule=[1.0], order=by, text_of=str)
    by_text.setup()
    assert pool_scores(data, data.order) == pytest.approx(pool_scores(by_text, by_text.order), abs=2e-2)
    assert order_of(data) == order_of(by_text)


def test_a_column_orders_the_pool(tmp_path):
    encoder = write_model(tmp_path / "bert", "bert", WORDS)
    data = files(tmp_path, TextClassificationData, encoder, {"by": "column", "column": "score"})
    assert order_of(data) == sorted(range(10), key=lambda at: -((7 * at) % 10))
    assert "order" not in data.domains.out_of_domain[0]
    pool = Texts(POOL)
    pool.quality = [at % 2 for at in range(10)]
    plain = module({"by": "column", "column": "quality"}, pool, seed=4)
    uniform = draw(10, 10, 4).tolist()
    assert order_of(plain) == [at for at in uniform if at % 2] + [at for at in uniform if at % 2 == 0]
