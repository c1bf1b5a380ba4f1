"""Scores are computed once, where a stage needs them, whatever the chunks, threads and processes."""

import json
import logging
import multiprocessing
import time

import pytest
from relevance_data import POOL, TARGET, WORDS, Texts, count_of_computations, files, module, order_of
from tiny_models import write_model

import gradual.data.relevance.scores
from gradual.data.relevance import classifier, tokens
from gradual.data.relevance.of_data import pool_scores
from gradual.data.relevance.scores import Scorer
from gradual.data.relevance.tokens import Corpus
from gradual.tasks import TextClassificationData


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


@pytest.fixture
def encoder(tmp_path):
    return write_model(tmp_path / "bert", "bert", [*WORDS, *(word.upper() for word in WORDS)])


def scores(encoder, pool):
    data = module({"by": "embedding", "encoder": encoder}, Texts(pool, "out"))
    return data.relevance().tolist()


def test_scores_by_embedding_belong_to_texts_as_they_are_written(encoder, tmp_path, monkeypatch):
    upper = [text.upper() if at % 2 else text for at, text in enumerate(POOL)]
    joined = ["".join(POOL[:2]), "", *POOL[2:]]
    lower, *found = [scores(encoder, pool) for pool in (POOL, upper, joined)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert found == [scores(encoder, pool) for pool in (upper, joined)]
    assert found[0] != lower


def test_scores_by_embedding_belong_to_the_encoder_with_its_tokenizer(encoder, tmp_path, monkeypatch):
    before = scores(encoder, POOL)
    path = tmp_path / "bert/tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["good"], words["film"] = words["film"], words["good"]
    path.write_text(json.dumps(content))
    after = scores(encoder, POOL)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert after == scores(encoder, POOL)
    assert after != before


def _order_in_a_process(by, queue):
    queue.put(order_of(module(by)))


def test_several_processes_compute_the_scores_once_and_agree(tmp_path, monkeypatch):
    made, original = tmp_path / "computations", Scorer._compute

    def compute(self, *arguments):
        with made.open("a") as file:
            file.write("x")
        time.sleep(0.3)  # the others come meanwhile
        return original(self, *arguments)

    monkeypatch.setattr(Scorer, "_compute", compute)
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
    assert made.read_text() == "x"


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
    sides, original = [], classifier._Side

    def side(*arguments):
        sides.append(original(*arguments))
        return sides[-1]

    monkeypatch.setattr(classifier, "LEARNED_FROM", 6)
    monkeypatch.setattr(classifier, "_Side", side)
    assert sorted(order_of(module("classifier"))) == list(range(10)), "all are scored"
    assert [len(set(one.positions)) for one in sides] == [4, 6]
    assert [one.matrix.shape[0] for one in sides] == [4, 6]


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
