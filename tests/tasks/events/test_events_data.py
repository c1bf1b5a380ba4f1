"""Documents in DyGIE's format: what is read is what was written."""

import json

import pytest
from dygie_lines import LABELS, LINE, READ, changed, write
from events_files import document, sentence, write_documents

from gradual.tasks.events.data import read_documents
from gradual.tasks.events.documents import LAYERS, Document, Event


def test_indices_of_the_document_become_indices_of_the_sentence(tmp_path):
    (read,) = read_documents(write(tmp_path / "a.json", LINE))
    assert read == Document("AFP-1", READ, 1.0, frozenset(LAYERS), LINE)


def test_both_forms_of_a_trigger_are_one(tmp_path):
    line = changed("events", 1, 0, 0, [5, 5, "Die"])
    (read,) = read_documents(write(tmp_path / "a.json", line))
    assert read.sentences == READ


def test_the_line_goes_through_as_it_was_read(tmp_path):
    line = LINE | {"unknown": [None, {"a": 1}], "_x": "ü", "weight": 2}
    (read,) = read_documents(write(tmp_path / "a.json", line))
    assert read.record == line


@pytest.mark.parametrize("layers", [(), ("events",), ("ner", "relations"), LAYERS])
def test_a_layer_may_be_absent(tmp_path, layers):
    line = {key: value for key, value in LINE.items() if key not in LAYERS or key in layers}
    (read,) = read_documents(write(tmp_path / "a.json", line))
    assert read.layers == frozenset(layers)
    for sentence_, whole in zip(read.sentences, READ, strict=True):
        for layer in LAYERS:
            assert getattr(sentence_, layer) == (getattr(whole, layer) if layer in layers else [])


@pytest.mark.parametrize("weight", [1, 0.25, 3.0, 1e-9])
def test_the_weight_is_read(tmp_path, weight):
    (read,) = read_documents(write(tmp_path / "a.json", LINE | {"weight": weight}))
    assert read.weight == weight
    assert isinstance(read.weight, float)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n \r\n\t\n"], ids=["LF", "CRLF", "blank lines"])
@pytest.mark.parametrize("end", [True, False], ids=["newline at the end", "none"])
def test_a_file_is_read_whatever_its_line_ends(tmp_path, mark, newline, end):
    lines = [LINE, LINE | {"doc_key": "AFP-2"}]
    text = newline.join(map(json.dumps, lines)) + newline * end
    (tmp_path / "a.json").write_bytes(mark + text.encode())
    assert [d.record for d in read_documents(tmp_path / "a.json")] == lines


def test_text_may_be_written_as_it_is_or_escaped(tmp_path):
    """Other line separators do not end a line, and a pair of surrogate escapes is one character."""
    line = {"doc_key": "é", "sentences": [["a\u2028b\x85", "😀", "\\ud83d"]]}
    for ascii_only in (True, False):
        (read,) = read_documents(write(tmp_path / "a.json", json.dumps(line, ensure_ascii=ascii_only)))
        assert read.record == line


def test_what_an_event_may_do_is_kept_as_it_stands(tmp_path):
    """Triggers that come twice, arguments that are triggers, that contain their trigger, that events share."""
    events = [
        (1, "Attack", [(0, 2, "Attacker"), (0, 2, "Attacker"), (1, 1, "Target")]),
        (1, "Attack", []),
        (1, "Die", [(0, 2, "Victim")]),
        (0, "Die", [(0, 2, "Victim")]),
    ]
    written = document("a", sentence("a b c", events=events))
    write_documents(tmp_path / "a.json", [written])
    assert read_documents(tmp_path / "a.json")[0].sentences[0].events == [Event(*event) for event in events]


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/b", "con", "C:\\x", "a\0", "-rf", "a b", "é"])
def test_a_key_is_text_whatever_it_looks_like(tmp_path, key):
    assert [d.id for d in read_documents(write(tmp_path / "x.json", LINE | {"doc_key": key}))] == [key]


def test_known_labels_are_read(tmp_path):
    (read,) = read_documents(write(tmp_path / "a.json", LINE), LABELS)
    assert read.sentences == READ
