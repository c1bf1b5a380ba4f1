"""Files of pairs and tiny models."""

import pytest
from pair_files import write_model, write_parts
from seq2seq_models import FAMILIES, LARGE


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The files of an experiment, and a tiny model of each family."""
    folder = tmp_path_factory.mktemp("pairs")
    for family in (*FAMILIES, *LARGE):
        write_model(folder / family, family)
    write_parts(folder)
    return folder
