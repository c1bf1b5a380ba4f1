"""Files that cannot be used, and settings that cannot be meant, are said in one sentence."""

import errno
import importlib
import logging
import os
import sys
from pathlib import Path

import pytest
from row_files import refused
from tokenized_files import ROWS, write

from gradual import InputError


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": \n',
            "a.jsonl:2: not JSON (Expecting value, column 9); a line must be one JSON object.",
        ),
        ("a.jsonl", '{"text": "a"}\n\n[1, 2]\n', "a.jsonl:3: the list [1, 2] is not a JSON object"),
        ("a.jsonl", '{"text": "a"}\n{"text": "\udcff"}\n', "a.jsonl:2: not UTF-8 (byte 0xff)"),
        ("a.json", '[{"text": "a"}, {"text": ]', "a.json:1: not JSON (Expecting value, column 26); the file must"),
        ("a.csv", "text,label\na,1\nb,1,2\n", "a.csv:3: found 3 fields, expected 2 (text, label)"),
        ("a.csv", "text,label\n", "a.csv holds no examples"),
        ("a.parquet", "PAR1", "a.parquet cannot be read as Parquet"),
        ("a.tsv", "", "a.tsv is empty"),
        ("a.xml", "<a/>", "a.xml has an unknown format; it must end in one of .jsonl, .json, .csv, .tsv, .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(make, tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert says in refused(make(str(tmp_path / name)))


def test_among_several_files_the_wrong_one_is_named(make, tmp_path):
    for k in range(3):
        write(tmp_path / f"{k}.csv", ROWS)
    write(tmp_path / "3.csv", [{"id": "1", "texts": "a", "label": 1}])
    message = refused(make(str(tmp_path / "*.csv")))
    assert "3.csv has 'texts' and lacks 'text', unlike " in message
    (tmp_path / "1.csv").write_text("id,text,label\n1,2\n1,2,3,4\n")
    assert "1.csv:2: found 2 fields, expected 3 (id, text, label)" in refused(make(str(tmp_path / "*.csv")))


def test_files_that_are_not_there(make, tmp_path):
    assert f"val: {tmp_path / 'b.csv'} does not exist" in refused(
        make(write(tmp_path / "a.csv", ROWS), None, str(tmp_path / "b.csv"))
    )
    assert "matches no file" in refused(make(str(tmp_path / "*.jsonl")))
    assert "is a folder; give its files" in refused(make(str(tmp_path)))
    assert "differ in format" in refused(make([str(tmp_path / "a.csv"), write(tmp_path / "a.jsonl", ROWS)]))
    assert "in_domain is empty" in refused(make([]))


def test_the_parts_of_an_experiment_have_the_same_columns(make, tmp_path):
    first, other = write(tmp_path / "a.csv", ROWS), write(tmp_path / "b.jsonl", [{"text": "a", "source": "web"}])
    message = refused(make(first, other))
    assert f"{other} has 'source' and lacks 'id', unlike {first}" in message
    assert len(make(first, other, columns=["text"]).domains.out_of_domain) == 1


@pytest.mark.parametrize("apart", [False, True])
def test_only_a_column_that_is_not_used_may_be_left_out(make, tmp_path, apart):
    """The values of two kinds are in one file, or in two."""
    rows = [{"text": "a", "label": 1, "note": 2}, {"text": "b", "label": "x", "note": "y"}]
    parts = [rows[:1], rows[1:]] if apart else [rows]
    files = [write(tmp_path / f"{number}.jsonl", part) for number, part in enumerate(parts)]
    end = "; a column must hold one kind of value"
    assert refused(make(*files, label_column="label")).endswith(f"{end}.")
    assert refused(make(*files, columns=["note"])).endswith(f"{end}.")
    for row in rows:
        row["label"] = 0
    files = [write(tmp_path / f"{number}.jsonl", part) for number, part in enumerate(parts)]
    assert refused(make(*files, label_column="label")).endswith(f"{end}, or be left out of columns.")
    assert len(make(*files, label_column="label", columns=[]).domains.in_domain)


def test_columns_that_are_needed_and_not_there_or_empty(make, tmp_path):
    file = write(tmp_path / "a.jsonl", ROWS)
    for setting in ("label_column", "id_column", "length_column", "text_column"):
        message = refused(make(file, tokens=setting == "text_column", **{setting: "lable"}))
        assert message == f"{file} has no column 'lable'; its columns are id, text, label."
    assert "has no column 'lable'" in refused(make(file, columns=["lable"]))
    empty = write(tmp_path / "b.jsonl", [{"text": "a", "label": None}, {"text": None, "label": 1}])
    assert "b.jsonl:1: 'label' has no value; every example needs one" in refused(make(empty, label_column="label"))
    assert "b.jsonl:2: 'text' has no value; every example needs one" in refused(make(empty, tokens=True))
    message = refused(make(file, tokens=True, text_column="label"))
    assert message == f"{file}:1: 'label' is the number 0; it must hold text."
    taken = write(tmp_path / "c.jsonl", [{"text": "a", "length": 1}])
    assert "has a column 'length', which tokenization creates" in refused(make(taken, tokens=True))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"text_column": "text"}, "text_column needs a tokenizer"),
        ({"text_column": list("abc"), "tokenizer": "t"}, "text_column has 3 columns"),
        ({"batch_tokens": 5}, "set text_column or length_column"),
        ({"max_length": 0}, "max_length is 0"),
        ({"num_proc": 0}, "num_proc is 0"),
    ],
)
def test_settings_that_cannot_be_meant(make, arguments, says):
    with pytest.raises(InputError, match=says):
        make("a.jsonl", **arguments)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_name_that_is_not_utf_8_is_a_name(make, tmp_path, suffix, caplog):
    caplog.set_level(logging.CRITICAL, "gradual")  # what is logged is sent as UTF-8 where several processes test
    written = write(tmp_path / f"a{suffix}", ROWS)
    odd = tmp_path / os.fsdecode(b"donn\xe9es" + suffix.encode())
    odd.write_bytes(Path(written).read_bytes())
    data = make(str(odd))
    assert len(data.domains.in_domain) == len(ROWS)
    assert data.content_of("in_domain") == make(written).content_of("in_domain")


def test_links_that_lead_nowhere(make, tmp_path):
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("missing.jsonl")
    assert refused(make(str(tmp_path / "loop.jsonl"))) == f"{tmp_path}/loop.jsonl: {os.strerror(errno.ELOOP)}."
    assert refused(make(str(tmp_path / "*.jsonl"))) == f"{tmp_path}/gone.jsonl: {os.strerror(errno.ENOENT)}."


def test_without_the_package_it_says_how_to_get_it(make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'gradual[files]'" in refused(make(write(tmp_path / "a.jsonl", ROWS)))


def test_without_pyarrow_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "gradual.data.arrow")
    with pytest.raises(InputError, match=r"needs the package pyarrow.*pip install 'gradual\[files\]'"):
        importlib.import_module("gradual.data.arrow")
