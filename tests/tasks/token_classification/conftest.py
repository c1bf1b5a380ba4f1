"""Files of tagged sentences, and encoders."""

import pytest
from tagger_models import KINDS
from tagging_examples import QUIET, sentences, write_conll, write_encoder


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Files of an experiment, and an encoder of each kind."""
    folder = tmp_path_factory.mktemp("tagging")
    for kind in KINDS:
        quiet = QUIET if kind != "modernbert" else {"attention_dropout": 0.0, "mlp_dropout": 0.0}
        write_encoder(folder / kind, kind, **quiet)
    for name, seed in (("train", 1), ("dev", 2), ("test", 3)):
        write_conll(folder / f"{name}.txt", sentences(12, seed))
    write_conll(folder / "pool.txt", sentences(30, 4, types=("PER",)))
    return folder
