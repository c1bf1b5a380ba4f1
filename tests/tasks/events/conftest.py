"""Files of the tiny corpus of events, and an encoder."""

import pytest
from events_corpus import POOL, WORDS, corpus
from events_examples import write_encoder
from events_files import write_documents


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The files of an experiment and a tiny encoder."""
    folder = tmp_path_factory.mktemp("events")
    for name in ("train", "dev", "test"):
        write_documents(folder / f"{name}.json", corpus(name))
    write_documents(folder / "pool.json", POOL)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write_encoder(folder / "encoder", WORDS, hidden_size=32, intermediate_size=64, initializer_range=0.1, **quiet)
    return folder
