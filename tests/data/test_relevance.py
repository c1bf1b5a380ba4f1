"""Orders by relevance against naive computations, and nothing of validation and test data in them."""

import json
import logging
import math
import multiprocessing
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from slow_cases import fast_one_in
from tiny_models import write_model
from torch.utils.data import Dataset
from transformers import AutoModel, AutoTokenizer

import gradual.data.relevance.scores
from gradual import InputError, MixedDomainDataModule
from gradual.data.order import draw, gumbel_noise
from gradual.data.relevance import classifier, ngrams, tokens
from gradual.data.relevance.classifier import distance
from gradual.data.relevance.of_data import corpora, pool_scores
from gradual.data.relevance.ranking import ranked
from gradual.data.relevance.settings import Order
from gradual.data.relevance.tokens import Corpus, Tokens
from gradual.tasks import TextClassificationData, TokenClassificationData

TARGET = ["the food was good", "bad food", "the food in the room was bad and poor", "good and fine food"]
POOL = [
    "the room was fine", "food", "a film not seen", "good good food", "the plot of the film", "bad food and bad room",
    "not a film", "fine food was the food", "a plot", "film film film",
]  # fmt: skip
WORDS = sorted({word for text in [*TARGET, *POOL] for word in text.split()})


class Raising(Dataset):
    """Examples that nobody may read."""

    def __init__(self, ids=()):
        if ids:
            self.ids = list(ids)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("read an example of validation or test data")


class Texts(list):
    """Texts with ids."""

    def __init__(self, texts, name="x"):
        super().__init__(texts)
        self.ids = [f"{name}{at}" for at in range(len(texts))]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def module(order, pool=None, target=None, schedule=(1.0,), draws=True, **settings):
    """A data module of texts that has drawn a sample, unless it should not."""
    data = MixedDomainDataModule(
        Texts(target or TARGET, "in"), pool or Texts(POOL, "out"), settings.pop("val", None), schedule=schedule,
        order=order, text_of=str, collate_fn=list, **settings,
    )  # fmt: skip
    data.setup()
    if draws:
        data.sample()
    return data


def order_of(data):
    return data.sample().tolist()


# Scores as by hand


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


def files(folder, data_class, encoder, order, pool=None, **settings):
    def rows(texts):
        for at, text in enumerate(texts):
            words = text.split()
            inputs = {"text": text} if data_class is TextClassificationData else {"tokens": words}
            gold = {"label": "ab"[at % 2]} if "text" in inputs else {"tags": ["ab"[at % 2]] * len(words)}
            yield {**inputs, **gold, "score": (7 * at) % 10}

    for part, texts in {"in": TARGET, "pool": pool or POOL, "val": TARGET}.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(texts)))
    data = data_class(
        str(folder / "in.jsonl"), out_of_domain=str(folder / "pool.jsonl"), val=str(folder / "val.jsonl"),
        tokenizer=encoder, cache_dir=str(folder / "cache"), num_proc=1, order=order, **settings,
    )  # fmt: skip
    data.schedule = [1.0]
    data.setup()
    return data


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


def test_equal_scores_are_in_uniform_order():
    found = ranked(np.ones(500, dtype=np.float32), {"": 500}, None, seed=9)
    assert np.array_equal(found.first(500), draw(500, 500, 9))


# Sources, stages and chance


@given(st.data(), st.dictionaries(st.sampled_from("abc"), st.integers(1, 30), min_size=1), st.integers(0, 1000))
def test_the_best_are_first_in_all_and_in_each_source(data, sizes, seed):
    total = sum(sizes.values())
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=total, max_size=total)), dtype=np.float32)
    found = ranked(scores, sizes, None, seed)
    order = found.first(total)
    assert sorted(order.tolist()) == list(range(total))
    assert np.array_equal(scores[order], np.sort(scores)[::-1])
    count = data.draw(st.integers(0, total))
    counts = found.counts(count)
    assert set(found.of_each(counts).tolist()) == set(order[:count].tolist())
    starts = np.cumsum([0, *sizes.values()])
    for at, size in enumerate(sizes.values()):
        inside = order[(starts[at] <= order) & (order < starts[at] + size)]
        assert np.array_equal(found.of_source(at, size), inside)


def test_amounts_by_source_and_weights_keep_the_best_of_each_source():
    pool = {"a": Texts(POOL[:5]), "b": Texts(POOL[5:])}
    data = module("ngrams", pool, schedule=[{"a": 3, "b": 4}, 5, {"b": 1}])
    ranks = {at: rank for rank, at in enumerate(order_of(module("ngrams", pool)))}  # source by source
    data.set_stage(0)
    assert [sum(at < 5 for at in data.sample()), sum(at >= 5 for at in data.sample())] == [3, 4]
    data.set_stage(2)
    (best,) = order_of(data)
    assert ranks[best] == min(ranks[at] for at in range(5, 10))


def test_noise_is_gumbel_noise_in_standard_deviations():
    noise = gumbel_noise(np.arange(20_000), 3)
    assert kstest(noise, "gumbel_r").pvalue > 0.001
    assert np.array_equal(gumbel_noise(np.array([7, 5]), 3), noise[[7, 5]])
    scores = np.random.default_rng(0).normal(3, 0.1, 1000).astype(np.float32)
    wanted = np.argsort(-(scores + 0.5 * scores.std(dtype=np.float64) * gumbel_noise(np.arange(1000), 8)))
    found = ranked(scores, {"": 1000}, None, seed=8, noise=0.5).first(1000)
    assert (found == wanted).mean() > 0.98  # but for the last bits of sums
    orders = [ranked(scores, {"": 1000}, None, seed, noise).first(100) for seed, noise in ((0, 0), (0, 0.5), (1, 0.5))]
    means = [scores[order].mean() for order in orders]
    assert means[0] > means[1] > scores.mean()
    assert set(orders[1]) != set(orders[2]), "other seeds, other noise"
    far = np.mean([scores[ranked(scores, {"": 1000}, None, seed, 1000).first(100)].mean() for seed in range(20)])
    assert abs(far - scores.mean()) < 0.01, "much noise is a uniform order"


# Nothing of validation and test data


@pytest.mark.parametrize("by", ["ngrams", "classifier"])
def test_validation_and_test_data_are_never_read(by):
    data = MixedDomainDataModule(
        Texts(TARGET), Texts(POOL, "out"), Raising(), Raising(), schedule=[1.0], order=by, text_of=str
    )
    data.setup()
    assert sorted(order_of(data)) == list(range(10))
    assert order_of(data) == order_of(module(by))


@pytest.mark.parametrize("by", ["ngrams", "classifier"])
def test_the_twin_of_a_test_example_is_worth_no_more_than_without_it(by):
    """A text of the pool that is also a test example, and an in-domain one that is held out, count for nothing."""
    test = Texts(["a film not seen", "zebra", "the plot"], "held")
    with_test = MixedDomainDataModule(
        Texts(TARGET), Texts(POOL, "out"), test=test, schedule=[1.0], order=by, text_of=str
    )
    with_test.setup()
    assert order_of(with_test) == order_of(module(by))
    target, pool = Texts([*TARGET, "zebra zebra"], "in"), Texts([*POOL, "zebra"], "out")
    ids = Raising(["in4", "out10", "x"])
    held = MixedDomainDataModule(target, pool, test=ids, schedule=[1.0], order=by, text_of=str)
    held.setup()
    assert order_of(held) == order_of(module(by)), "as if the held-out examples were not there"


# Computed once


def count_of_computations(monkeypatch):
    made = []
    original = gradual.data.relevance.scores.Scorer._compute

    def compute(self, *arguments):
        made.append(self.order.by)
        return original(self, *arguments)

    monkeypatch.setattr(gradual.data.relevance.scores.Scorer, "_compute", compute)
    return made


def test_scores_are_found_again_by_content(monkeypatch, tmp_path, caplog):
    made = count_of_computations(monkeypatch)
    first = order_of(module("ngrams"))
    assert order_of(module("ngrams", seed=3)) == first
    assert order_of(module({"by": "ngrams", "noise": 1.0}, seed=3)) != first
    assert made == ["ngrams"]
    module("ngrams", Texts([*POOL[:9], "other"]))
    module("ngrams", target=[*TARGET, "more"])
    module("classifier")
    assert made == ["ngrams", "ngrams", "ngrams", "classifier"]
    for path in (tmp_path / "cache/gradual/relevance").glob("*.npy"):
        path.write_bytes(path.read_bytes()[:90])
    with caplog.at_level(logging.WARNING):
        assert order_of(module("ngrams")) == first
    assert "is damaged and is created again" in caplog.text
    assert len(made) == 5


def test_a_process_that_ends_while_it_scores_leaves_nothing_behind(monkeypatch, tmp_path):
    whole = order_of(module("ngrams"))
    for path in (tmp_path / "cache/gradual/relevance").glob("*.npy"):
        path.unlink()
    original = gradual.data.relevance.scores.importance_scores

    def dies(in_domain, pool, out, *rest):
        out[:4] = 1
        raise KeyboardInterrupt

    monkeypatch.setattr(gradual.data.relevance.scores, "importance_scores", dies)
    with pytest.raises(KeyboardInterrupt):
        module("ngrams")
    assert list((tmp_path / "cache/gradual/relevance").glob("*.npy")) == []
    monkeypatch.setattr(gradual.data.relevance.scores, "importance_scores", original)
    assert order_of(module("ngrams")) == whole


def test_files_are_found_again_without_reading_them(monkeypatch, tmp_path):
    made = count_of_computations(monkeypatch)
    encoder = write_model(tmp_path / "bert", "bert", WORDS)
    first = order_of(files(tmp_path, TextClassificationData, encoder, "relevance"))
    monkeypatch.setattr(Corpus, "read", None)
    assert order_of(files(tmp_path, TextClassificationData, encoder, "relevance")) == first
    monkeypatch.undo()
    assert made == ["embedding"]


def _order_in_a_process(by, queue):
    queue.put(order_of(module(by)))


def test_several_processes_compute_the_scores_once_and_agree(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_order_in_a_process, args=("ngrams", queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found[0] == found[1] == found[2]
    assert len(list((tmp_path / "cache/gradual/relevance").glob("*.npy"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("by", ["ngrams", "classifier"])
def test_chunks_and_threads_change_nothing(monkeypatch, by):
    data = module(by)
    whole = pool_scores(data, data.order)
    monkeypatch.setattr(tokens, "CHUNK", 3)
    monkeypatch.setattr(gradual.data.relevance.scores, "_VERSION", 0)
    data = module(by)
    data.num_proc = 4
    assert pool_scores(data, data.order) == pytest.approx(whole, abs=1e-6)


def test_a_sample_of_a_large_pool_is_learned_from(monkeypatch):
    monkeypatch.setattr(classifier, "LEARNED_FROM", 6)
    assert sorted(order_of(module("classifier"))) == list(range(10))


# The distance of a source


@pytest.mark.slow
def test_the_distance_is_near_0_for_the_same_domain_and_2_for_another():
    generator = np.random.default_rng(0)

    def texts(words, count):
        return Texts([" ".join(generator.choice(words, 12)) for _ in range(count)])

    near, far = WORDS[:8], WORDS[8:]
    data = module("ngrams", {"same": texts(near, 300), "other": texts(far, 300)}, texts(near, 200))
    own, sources = corpora(data)
    same, other = distance(own, sources["same"]), distance(own, sources["other"])
    assert abs(same.value) < 3 * same.error
    assert (other.value, other.error) == (2.0, 0.0)
    assert 0 < same.error < 0.2


# What is refused


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


def test_an_order_is_only_computed_for_a_stage_that_needs_it(monkeypatch):
    made = count_of_computations(monkeypatch)
    data = module("ngrams", schedule=[5, 0], draws=False)
    assert data.amounts == [5, 0]
    data.set_stage(1)
    assert data.sample_ids() == []
    data.statistics()
    assert made == []
    data.set_stage(0)
    assert len(data.sample()) == 5
    assert made == ["ngrams"]
