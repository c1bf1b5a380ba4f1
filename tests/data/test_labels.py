"""Labels that only the pool has are noted."""

import json
import logging

import pyarrow as pa
from events_examples import write_encoder
from events_files import document, sentence, write_documents

from gradual import FileDataModule
from gradual.data.labels import distinct, in_order, note_labels, note_pool_labels
from gradual.tasks.events import EventDataModule


def said(caplog) -> list[tuple[int, str]]:
    return [
        (record.levelno, record.getMessage()) for record in caplog.records if "only the pool" in record.getMessage()
    ]


def test_a_label_written_like_another_is_a_warning_and_any_other_a_note(caplog):
    caplog.set_level("INFO", logger="gradual")
    note_pool_labels("labels", ["pos", "neg"], ["pos", "neg", "other"])
    note_pool_labels("labels", [], ["pos"])
    assert not said(caplog)
    note_pool_labels("labels", ["POS", "neg", "mixed"], ["pos", "neg"])
    note_pool_labels("ner", ["+"], ["-"])
    assert said(caplog) == [
        (
            logging.WARNING,
            "labels: only the pool has the labels 'POS', 'mixed'. Are these the same: 'POS' beside 'pos'?",
        ),
        (logging.INFO, "ner: only the pool has the label '+'."),
    ]


def test_labels_of_files_that_only_differ_in_case_are_noted(tmp_path, caplog):
    parts = {"in_domain": ["pos", "neg"], "out_of_domain": ["POS", "neg"], "val": ["pos"]}
    for name, labels in parts.items():
        lines = [json.dumps({"x": index, "label": label}) + "\n" for index, label in enumerate(labels)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in parts}
    data = FileDataModule(**files, label_column="label", cache_dir=str(tmp_path / "cache"), num_proc=1)
    data.setup()
    ((level, line),) = said(caplog)
    assert level == logging.WARNING
    assert line.startswith("Column 'label': only the pool has the label 'POS'.")


def test_labels_of_events_that_only_differ_in_case_are_noted_for_each_kind(tmp_path, caplog):
    caplog.set_level("INFO", logger="gradual")
    attack = [(1, "Attack", [(0, 0, "Attacker")])]
    ours = document("D0", sentence("rebels shot men", [(0, 0, "PER")], events=attack))
    held_out = document("D2", sentence("rebels shot men", [(0, 0, "PER")], events=attack))
    theirs = document("D1", sentence("rebels shot men", [(0, 0, "Per")], events=[(1, "Die", [(0, 0, "Attacker")])]))
    for name, documents in (("train", [ours]), ("dev", [held_out]), ("pool", [theirs])):
        write_documents(tmp_path / f"{name}.json", documents)
    encoder = write_encoder(tmp_path / "encoder", ["rebels", "shot", "men"])
    train, dev, pool = (str(tmp_path / f"{name}.json") for name in ("train", "dev", "pool"))
    EventDataModule(train, dev, out_of_domain=pool, tokenizer=encoder).setup()
    assert said(caplog) == [
        (logging.WARNING, "ner: only the pool has the label 'Per'. Are these the same: 'Per' beside 'PER'?"),
        (logging.INFO, "triggers: only the pool has the label 'Die'."),
    ]


def test_labels_have_one_order_whatever_part_has_them():
    assert in_order([["b", "a"], ["c", "a"]]) == in_order([["c"], ["a", "b"]]) == ("a", "b", "c")
    assert in_order([[10, 2], [1]]) == ("1", "2", "10")
    assert in_order([[True], [False]]) == ("False", "True")


def test_distinct_labels_are_those_of_lists_too():
    values = pa.chunked_array([["b", None], ["a", "b"]])
    assert sorted(distinct(values)) == ["a", "b"]
    assert sorted(distinct(pa.chunked_array([[["b"], []], [["a", "b"], None]], pa.list_(pa.string())))) == ["a", "b"]


def test_labels_that_no_training_example_has_are_a_warning(caplog):
    note_labels("Column 'label'", {"in_domain": ["a"], "out_of_domain": ["b"], "val": ["a", "b"], "test": ["c"]})
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "Column 'label': no training example has the label 'c'."
    ]
