"""The data module of events: its sources and their labels, files to predict, the encoder's limits."""

import json
import shutil

import pytest
from events_corpus import data
from events_files import document, sentence, write_documents
from tiny_models import write_model

from gradual.errors import InputError
from gradual.tasks.events import EventDataModule


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


def test_documents_of_named_sources_and_their_order(tmp_path):
    encoder = write_model(tmp_path / "bert", "bert", ["died", "met", "they", "he", "there", "zebra"])
    die, meet = ([(0, kind, [])] for kind in ("Die", "Meet"))
    texts = {
        "in": [document(f"in{at}", sentence("died there", events=die), "he died") for at in range(3)],
        "val": [document("val0", sentence("met there", events=meet))],
        "news": [
            document(f"n{at}", sentence(text, events=meet)) for at, text in enumerate(["met zebra", "met he died"])
        ],
        "wire": [document(f"w{at}", sentence("died they", events=die)) for at in range(4)],
    }
    for name, documents in texts.items():
        write_documents(tmp_path / f"{name}.json", documents)
    data = EventDataModule(
        str(tmp_path / "in.json"), str(tmp_path / "val.json"), tokenizer=encoder, out_of_domain_labels="own",
        out_of_domain={name: str(tmp_path / f"{name}.json") for name in ("wire", "news")},
        order={"by": "ngrams"},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        data.schedule = [{"news": 2, "wire": 3}, {"news": 1}]
        data.setup()
        assert data.composition == {"news": 2, "wire": 3}
        assert [data.domains.out_of_domain[at].schema for at in range(6)] == [1, 1, 2, 2, 2, 2]
        assert data.spec().allowed["triggers"] == [[True, True], [False, True], [True, False]]
        data.set_stage(1)
        assert data.sample_ids() == ["news/n1"], "the one with the words of the target"
        assert data.statistics()["pool, wire"]["documents"] == 4
        assert data.rows("out_of_domain.wire")[0] == texts["wire"][0].record
        assert data.domains.in_domain.token_ids(0, 2).lengths.tolist() == data.domains.in_domain.lengths[:2].tolist()
