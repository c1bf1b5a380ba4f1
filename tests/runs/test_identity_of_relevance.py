"""The relevance that a pool is ordered by is part of what a run is made of, but not its last digits."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from identified_runs import Net, fit
from relevance_data import POOL, TARGET, WORDS, Texts, count_of_computations, module
from tiny_models import write_model
from transformers import AutoModel

from gradual import MixedDomainDataModule
from gradual.runs.fingerprint import data_fingerprint, same_scores
from gradual.runs.identity import changed


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def encoder(tmp_path):
    return write_model(tmp_path / "bert", "bert", WORDS)


def fingerprint(order):
    return json.loads(json.dumps(data_fingerprint(module(order, draws=False))))


def differences(before, now):
    return changed({"settings": {}, "data": before}, {"settings": {}, "data": now})


def replace_encoder(folder):
    """Put another encoder with the same vocabulary in a folder."""
    model = AutoModel.from_pretrained(folder)
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)


def test_another_encoder_in_the_same_folder_makes_other_data(encoder, tmp_path):
    order = {"by": "embedding", "encoder": encoder}
    before = fingerprint(order)
    shutil.rmtree(tmp_path / "cache")
    assert differences(before, fingerprint(order)) == []
    replace_encoder(encoder)
    assert differences(before, fingerprint(order)) == [
        "data.order: different scores by embedding (another encoder in its folder, or another library)"
    ]
    del before["order_scores"]
    assert differences(before, fingerprint(order)) == [], "an earlier version did not record them"


@pytest.mark.parametrize("by", ["ngrams", "classifier"])
def test_other_scores_of_any_order_are_noticed(by, monkeypatch, tmp_path):
    before, relevance = fingerprint(by), MixedDomainDataModule.relevance
    monkeypatch.setattr(MixedDomainDataModule, "relevance", lambda data: relevance(data) * (1 + 1e-6))
    assert differences(before, fingerprint(by)) == [], "as on another machine"
    monkeypatch.setattr(MixedDomainDataModule, "relevance", lambda data: relevance(data)[::-1])
    (said,) = differences(before, fingerprint(by))
    assert said.startswith(f"data.order: different scores by {by} (")


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=100), st.floats(-10, 10), st.floats(0.01, 100))
def test_the_same_scores_up_to_rounding_are_the_same(values, shift, scale):
    scores = shift + scale * np.array(values)
    rounded = scores.astype(np.float32)
    assert same_scores(scores.tolist(), rounded.tolist())
    assert same_scores(rounded.tolist(), scores.tolist())
    assert not same_scores(scores.tolist(), [*scores.tolist(), 0.0])
    far = scores + 10 * np.ptp(scores) + 1
    assert not same_scores(scores.tolist(), far.tolist())


def test_a_run_that_has_nothing_to_draw_from_the_pool_does_not_order_it(tmp_path, monkeypatch):
    made = count_of_computations(monkeypatch)

    def data():
        texts = Texts(TARGET, "in"), Texts(POOL, "out"), Texts(["film plot"], "val")
        return MixedDomainDataModule(*texts, order="ngrams", text_of=str, collate_fn=_numbers, batch_size=4)

    fit(tmp_path, Net(), [0], data=data())
    assert made == []
    fit(tmp_path, Net(), [4, 0], data=data())
    assert made == ["ngrams"]
    recorded = json.loads((tmp_path / "run/experiment.json").read_text())["data"]["order_scores"]
    assert len(recorded) == len(POOL)
    shutil.rmtree(tmp_path / "cache")
    fit(tmp_path, Net(), [4, 0], data=data())
    assert made == ["ngrams"], "all is trained"
    assert json.loads((tmp_path / "run/experiment.json").read_text())["data"]["order_scores"] == recorded


def _numbers(texts):
    sizes = torch.tensor([[float(len(text)), float(text.count(" ")), 1.0] for text in texts])
    return sizes, sizes[:, :1] / 10
