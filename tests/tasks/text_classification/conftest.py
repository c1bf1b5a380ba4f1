"""Tiny encoders for text classification."""

import pytest
from classification_files import WORDS
from tiny_models import write_model


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: write_model(folder / kind, kind, WORDS) for kind in ("bert", "roberta", "modernbert")} | {
        "dropout": write_model(folder / "dropout", "bert", WORDS, dropout=True)
    }
