"""The data module of events: its sources and their labels, files to predict, the encoder's limits."""

import json
import shutil

import pytest
from events_corpus import data
from events_files import document, sentence, write_documents

from gradual.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


def test_an_unknown_label_in_a_file_to_predict_is_an_input_error(folder, tmp_path):
    write_documents(tmp_path / "new.json", [document("N", sentence("two men", [(0, 1, "PERSON")]))])
    unknown = "'PERSON' is not one of the 2 entity types that the model knows"
    with pytest.raises(InputError, match=rf"new\.json:1: .*{unknown}"):
        data(folder, predict_file=str(tmp_path / "new.json")).setup()


def test_windows_are_no_longer_than_the_encoder_takes(folder, tmp_path):
    shutil.copytree(folder / "encoder", tmp_path / "encoder")
    config = tmp_path / "encoder" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": 1000, "pad_token": None}))
    with pytest.raises(InputError, match="takes at most 64 word pieces"):  # the encoder's positions
        data(folder, tokenizer=str(tmp_path / "encoder"), max_length=65).setup()
    with pytest.raises(InputError, match="no padding token"):
        data(folder, tokenizer=str(tmp_path / "encoder")).setup()


def test_a_wrong_choice_of_the_pools_labels_is_an_input_error(folder):
    with pytest.raises(InputError, match=r"out_of_domain_labels is 'some': it must be all or own\.$"):
        data(folder, out_of_domain_labels="some")
