"""Anyone's own files: read in every format, tokenized once, shared, and what is wrong with them said in a sentence."""

import csv
import errno
import importlib
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import socket
import sys
import time
from itertools import chain
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_runs import path_results
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerFast

import gradual.data.cache
import gradual.data.tokenization
from gradual import FileDataModule, InputError
from gradual.__main__ import main
from gradual.data.collate import PaddingCollator
from gradual.data.file_dataset import ArrowColumn, FileDataset
from gradual.data.files import expand

WORDS = ["a", "b", "c", "d", "the", "cat", "dog", "sat", "ran", "on", "mat"]
ROWS = [{"id": f"n{i}", "text": " ".join(WORDS[: 1 + i % 7]), "label": i % 3} for i in range(20)]


def write(path: Path, rows: list[dict]) -> str:
    """Write a file in the format of its name, with no code of ours or of ``datasets``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".jsonl", ".json"):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], dialect="excel-tab" if path.suffix == ".tsv" else "excel")
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, ["[PAD]", "[UNK]", *WORDS])
    return str(folder)


def save_tokenizer(folder, words, **settings):
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=6, **settings
    ).save_pretrained(folder)


@pytest.fixture
def make(tmp_path, tokenizer_folder):
    """Makes a data module with a cache of the test's own; ``tokens=True`` tokenizes."""

    def make(in_domain, *more, tokens=False, **arguments):
        if tokens:
            arguments = {"text_column": "text", "tokenizer": tokenizer_folder} | arguments
        return FileDataModule(in_domain, *more, cache_dir=str(tmp_path / "cache"), **arguments)

    return make


@pytest.fixture
def made(monkeypatch):
    """Names of the files that were converted, one entry each time."""
    files, original = [], gradual.data.cache._make

    def make(part, *rest):
        files.append(part.files[0].name)
        original(part, *rest)

    monkeypatch.setattr(gradual.data.cache, "_make", make)
    return files


def refused(data) -> str:
    with pytest.raises(InputError) as error:
        data.setup()
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    return str(error.value)


# Reading

TEXTS = st.text(st.characters(exclude_categories=["C"], exclude_characters="\u2028\u2029\x85"), max_size=20)
VALUES = {"label": st.integers(-(2**40), 2**40), "weight": st.floats(allow_nan=False, allow_infinity=False)}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), data=st.data())
def test_every_format_gives_what_was_written(make, tmp_path, suffix, texts, data):
    rows = [{"text": f"x{text}"} | {name: data.draw(values) for name, values in VALUES.items()} for text in texts]
    file = write(tmp_path / f"rows{suffix}", rows)
    read = make(file).domains.in_domain
    assert [read[index] for index in range(len(read))] == rows
    assert read.__getitems__([len(rows) - 1, 0]) == [rows[-1], rows[0]]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_words_of_a_table_are_words(make, tmp_path, suffix):
    rows = [{"id": "007", "text": "None"}, {"id": "08", "text": "NA"}, {"id": "1e3", "text": 'say "hi",\tyou'}]
    read = make(write(tmp_path / f"rows{suffix}", rows), id_column="id").domains.in_domain
    assert read.__getitems__([0, 1, 2]) == rows


def test_json_may_be_one_array_and_may_lack_what_is_not_needed(make, tmp_path):
    (tmp_path / "array.json").write_text(json.dumps(ROWS, indent=1))
    read = make(str(tmp_path / "array.json"), label_column="label").domains.in_domain
    assert [read[index] for index in range(20)] == ROWS
    (tmp_path / "some.jsonl").write_text('{"text": "a"}\n\n{"text": "b", "note": "n"}\n')
    read = make(str(tmp_path / "some.jsonl")).domains.in_domain
    assert [read[0], read[1]] == [{"text": "a", "note": None}, {"text": "b", "note": "n"}]


def test_files_come_as_a_name_a_pattern_or_a_list_in_order(make, tmp_path):
    names = [write(tmp_path / f"part-{k}.jsonl", ROWS[4 * k : 4 * k + 4]) for k in range(3)]
    pattern = str(tmp_path / "part-*.jsonl")
    assert list(map(str, expand("val", pattern))) == names
    assert list(map(str, expand("val", [names[2], pattern]))) == [names[2], *names]
    read = make([names[1], names[0]], out_of_domain=pattern).domains
    assert [row["id"] for row in read.in_domain.__getitems__([0, 7])] == ["n4", "n3"]
    assert len(read.out_of_domain) == 12


def test_only_the_columns_that_are_named_are_kept(make, tmp_path):
    file = write(tmp_path / "a.jsonl", [{**row, "date": "2020", "note": "n"} for row in ROWS])
    data = make(file, columns=["note"], id_column="id", label_column="label")
    assert data.domains.in_domain[3] == {"id": "n3", "label": 0, "note": "n"}


def test_nothing_asks_a_network(make, tmp_path, monkeypatch):
    def connect(*_):
        raise AssertionError("asked a network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert len(make(write(tmp_path / "a.csv", ROWS), tokens=True).domains.in_domain) == 20


# Tokens


def test_text_is_tokenized_as_the_tokenizer_does_it(make, tmp_path, tokenizer_folder):
    data = make(write(tmp_path / "a.jsonl", ROWS), tokens=True)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    for index, row in enumerate(ROWS):
        expected = tokenizer(row["text"], truncation=True, max_length=6)
        assert data.domains.in_domain[index] == {"id": row["id"], "label": row["label"], **expected}
    lengths = [min(6, len(row["text"].split())) for row in ROWS]
    assert data.domains.in_domain.lengths[np.arange(20)].tolist() == lengths
    assert data.statistics()["tokens"]["train (in-domain)"] == sum(lengths)
    short = make(str(tmp_path / "a.jsonl"), tokens=True, max_length=2)
    assert max(short.domains.in_domain.lengths) == 2


def test_two_columns_are_a_pair(make, tmp_path, tokenizer_folder):
    file = write(tmp_path / "a.jsonl", [{"question": "the cat", "text": "sat on"}])
    data = make(file, tokens=True, text_column=["question", "text"])
    expected = AutoTokenizer.from_pretrained(tokenizer_folder)("the cat", "sat on")
    assert data.domains.in_domain[0] == dict(expected)


@pytest.mark.parametrize("processes", [1, 2])
def test_several_processes_tokenize_to_the_same_result(make, tmp_path, monkeypatch, processes):
    monkeypatch.setattr(gradual.data.tokenization, "_ROWS_PER_PROCESS", 5)
    file = write(tmp_path / "a.jsonl", ROWS)
    many = make(file, tokens=True, num_proc=processes).domains.in_domain
    assert [len(row["input_ids"]) for row in many.__getitems__(list(range(20)))] == list(many.lengths)
    assert list(many.lengths) == [min(6, 1 + i % 7) for i in range(20)]


def test_batches_may_hold_a_number_of_tokens(make, tmp_path):
    file, pool = write(tmp_path / "a.jsonl", ROWS[:5]), write(tmp_path / "pool.jsonl", ROWS)
    data = make(file, pool, tokens=True, batch_tokens=20)
    data.schedule = [8]
    tokens = [int(batch["attention_mask"].sum()) for batch in data.train_dataloader()]
    drawn = [min(6, 1 + index % 7) for index in [*range(5), *data.sample()]]
    assert sum(tokens) == sum(drawn)
    assert len(tokens) == -(-sum(drawn) // 20)
    given = make(write(tmp_path / "b.jsonl", [{"n": 3}, {"n": 2}]), length_column="n", batch_tokens=3)
    assert sorted(batch["n"].sum().item() for batch in given.train_dataloader()) == [2, 3]


# Batches


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_padded_to_its_longest(tmp_path, side):
    save_tokenizer(tmp_path, ["[UNK]", "[PAD]", *WORDS], padding_side=side)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["the cat", "a b c d", "dog"]
    batch = PaddingCollator(tokenizer)([{**tokenizer(text), "text": text, "label": 1.5, "ok": True} for text in texts])
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    assert set(batch) == {*expected, "text", "label", "ok"}
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor), name
    assert batch["text"] == texts
    assert batch["label"].tolist() == [1.5] * 3
    assert batch["ok"].tolist() == [True] * 3


def test_labels_of_tokens_are_padded_with_what_the_loss_leaves_out():
    batch = PaddingCollator()([{"labels": [1], "extra": [1]}, {"labels": [2, 3], "extra": []}])
    assert batch["labels"].tolist() == [[1, -100], [2, 3]]
    assert batch["extra"].tolist() == [[1], [0]]
    ragged = PaddingCollator()([{"nested": [[1]], "missing": None}, {"nested": [], "missing": 1}])
    assert ragged == {"nested": [[[1]], []], "missing": [None, 1]}


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        ([[], [1, 2]], torch.int64),
        ([[1], []], torch.int64),
        ([[], []], torch.int64),
        ([[1], [2.5]], torch.float32),
        ([[], [2.5], [1]], torch.float32),
        ([[True], [False, True]], torch.bool),
        ([[True], [3]], torch.int64),
    ],
    ids=str,
)
def test_a_column_of_lists_is_of_one_type_whichever_comes_first(rows, dtype):
    column = PaddingCollator()([{"x": row} for row in rows])["x"]
    assert column.dtype == dtype
    longest = max(map(len, rows))
    assert column.tolist() == [row + [0] * (longest - len(row)) for row in rows]


def test_the_label_column_is_padded_as_labels_are_whatever_its_name(make, tmp_path):
    rows = [{"text": "a b", "tags": [1, 2], "other": [1, 2]}, {"text": "a", "tags": [3], "other": [3]}]
    data = make(write(tmp_path / "a.jsonl", rows), val=write(tmp_path / "b.jsonl", rows), label_column="tags")
    (batch,) = data.val_dataloader()
    assert batch["tags"].tolist() == [[1, 2], [3, -100]]
    assert batch["other"].tolist() == [[1, 2], [3, 0]]


# Labels and ids


def test_labels_that_are_text_become_numbers(make, tmp_path):
    def file(name, labels):
        return write(tmp_path / f"{name}.csv", [{"text": "a", "label": label} for label in labels])

    files = [file("in", "bc"), file("pool", "cab"), file("val", "ba"), None, file("predict", "bz")]
    data = make(*files, label_column="label")
    domains = data.domains
    assert data.label_names == ["a", "b", "c"]
    assert [row["label"] for row in domains.out_of_domain.__getitems__([0, 1, 2])] == [2, 0, 1]
    assert [domains.val[0]["label"], domains.val[1]["label"]] == [1, 0]
    assert [domains.predict[0]["label"], domains.predict[1]["label"]] == [1, -100]
    message = refused(make(files[0], None, files[4], label_column="label"))
    assert message == f"val ({files[4]}) has the label 'z', which is in no training file."


def test_data_to_predict_needs_no_label(make, tmp_path):
    file, unlabelled = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "new.jsonl", [{"text": "the cat"}])
    for columns in (None, []):
        data = make(file, predict=unlabelled, tokens=True, label_column="label", columns=columns)
        (batch,) = data.predict_dataloader()
        assert set(batch) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("kind", [str, int])
def test_held_out_ids_are_left_out_whatever_the_format(make, tmp_path, caplog, kind):
    rows = [{"id": kind(i), "text": f"t{i}"} for i in range(12)]
    pool = write(tmp_path / "pool.parquet", rows[3:])
    val = write(tmp_path / "val.csv", [rows[0], rows[5], rows[11]])
    data = make(write(tmp_path / "in.jsonl", rows[:3]), pool, val, id_column="id")
    data.schedule = [7, 2]
    with caplog.at_level(logging.WARNING):
        data.setup()
    (message,) = (record.getMessage() for record in caplog.records if "Left out" in record.getMessage())
    assert "1 in-domain and 2 out-of-domain" in message
    assert (data.in_domain_size, data.pool_size) == (2, 7)
    assert sorted(map(int, data.sample_ids())) == [3, 4, 6, 7, 8, 9, 10]
    seen = list(chain.from_iterable(batch["text"] for batch in data.train_dataloader()))
    assert sorted(seen) == sorted(f"t{i}" for i in (1, 2, 3, 4, 6, 7, 8, 9, 10))


@given(st.lists(st.integers(0, 30), min_size=1), st.lists(st.integers(0, 40)), st.data(), st.sampled_from([int, str]))
def test_a_column_in_a_file_is_a_column(values, wanted, data, kind):
    values, wanted = list(map(kind, values)), list(map(kind, wanted))
    half = len(values) // 2
    table = pa.chunked_array([values[:half], values[half:]], pa.string() if kind is str else pa.int64())
    column = ArrowColumn(datasets.Dataset(pa.table({"c": table})), "c")
    indices = np.array(data.draw(st.lists(st.integers(0, len(values) - 1))), dtype=np.int64)
    assert list(column) == values
    assert len(column) == len(values)
    assert np.asarray(column).tolist() == values
    assert column[indices].tolist() == [values[index] for index in indices]
    assert column[len(values) - 1] == values[-1]
    assert column.isin(wanted).tolist() == [value in wanted for value in values]
    assert column.isin([str(value) for value in wanted]).tolist() == [value in wanted for value in values]


# The cache


def test_files_of_known_content_are_not_tokenized_again(make, tmp_path, made, tokenizer_folder):
    file, other = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "copy.jsonl", ROWS)
    for _ in range(2):
        make(file, None, other, file, tokens=True).setup()
        assert made == ["a.jsonl"], "the same content under another name is the same"
    make(file, tokens=True, max_length=3).setup()
    make(file).setup()
    make(file, columns=["text"]).setup()
    save_tokenizer(tmp_path / "other", ["[PAD]", "[UNK]", *reversed(WORDS)])
    make(file, tokens=True, tokenizer=str(tmp_path / "other")).setup()
    assert made == ["a.jsonl"] * 5
    write(Path(file), [*ROWS[:-1], {**ROWS[-1], "label": 2}])  # as long as before
    changed = make(file, tokens=True)
    assert changed.domains.in_domain[19]["label"] == 2
    assert made == ["a.jsonl"] * 6


def test_stages_fits_and_tests_read_the_files_once(make, tmp_path, monkeypatch):
    reads, original = [], gradual.data.files.read_tables
    monkeypatch.setattr(gradual.data.files, "read_tables", lambda *a: (reads.append(a[0]), original(*a))[1])
    data = make(write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "pool.jsonl", ROWS), tokens=True)
    data.schedule = [5, 0]
    for stage in ("fit", "test"):
        data.prepare_data()
        data.setup(stage)
    for k in (0, 1):
        data.set_stage(k)
        list(data.train_dataloader())
    assert len(reads) == 1


def test_an_old_file_is_not_read_again_to_learn_that_it_is_the_same(make, tmp_path, monkeypatch):
    file = write(tmp_path / "a.jsonl", ROWS)
    monkeypatch.setattr(time, "time_ns", lambda: Path(file).stat().st_mtime_ns + 10**10)
    make(file).setup()
    monkeypatch.setattr(gradual.data.cache, "sha256", None)
    make(file).setup()


@pytest.mark.parametrize("damage", ["truncated", "missing", "no state"])
def test_a_damaged_table_is_made_again(make, tmp_path, made, caplog, damage):
    file = write(tmp_path / "a.jsonl", ROWS)
    make(file, tokens=True).setup()
    (arrow,) = (tmp_path / "cache").glob("*/data-*.arrow")
    if damage == "truncated":
        arrow.write_bytes(arrow.read_bytes()[: arrow.stat().st_size // 2])
    else:
        (arrow if damage == "missing" else arrow.with_name("state.json")).unlink()
    assert len(make(file, tokens=True).domains.in_domain) == 20
    assert made == ["a.jsonl"] * 2
    assert "is damaged and is created again" in caplog.text


def cache_that_is(kind, folder, monkeypatch):
    """A fault of the cache folder; permissions alone are none for a superuser, who runs many a test."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read_only(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    if kind == "a file":
        folder.write_text("not a folder")
    elif kind == "read-only":
        monkeypatch.setattr("gradual.data.cache.lock", read_only)
        monkeypatch.setattr("gradual.data.cache.write_atomically", read_only)
    elif kind == "full for tokens":
        monkeypatch.setattr("datasets.Dataset.map", full)
    else:
        monkeypatch.setattr("datasets.Dataset.save_to_disk", full)


FAULTS = {
    "a file": "File exists",
    "read-only": "Permission denied",
    "full for tokens": "No space left on device",
    "full": "No space left on device",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_cache_folder_that_takes_nothing_is_named(make, tmp_path, monkeypatch, kind):
    file = write(tmp_path / "a.jsonl", ROWS)
    os.utime(file, (1, 1))  # old enough for a note of its content
    cache_that_is(kind, tmp_path / "cache", monkeypatch)
    said = f"The cache folder {tmp_path / 'cache'} cannot be written to ({FAULTS[kind]}): make room, or choose another"
    assert said in refused(make(file, tokens=True))
    assert not list(tmp_path.glob("cache/*.tmp"))


def test_a_cache_folder_that_is_full_of_what_is_needed_need_not_be_written(make, tmp_path, monkeypatch):
    file = write(tmp_path / "a.jsonl", ROWS)
    assert len(make(file, tokens=True).domains.in_domain) == len(ROWS)
    os.utime(file, (1, 1))
    cache_that_is("read-only", tmp_path / "cache", monkeypatch)
    assert len(make(file, tokens=True).domains.in_domain) == len(ROWS)


def test_an_interrupted_tokenization_is_done_again(make, tmp_path, made, monkeypatch):
    file = write(tmp_path / "a.jsonl", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(gradual.data.cache, "tokenize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(file, tokens=True).setup()
    assert len(make(file, tokens=True).domains.in_domain) == 20
    assert len(made) == 2
    assert not list((tmp_path / "cache").glob("*.tmp"))


def _open_at_once(arguments, log, barrier):
    original = gradual.data.cache._make

    def slowly(*given):
        with Path(log).open("a") as file:
            file.write("made\n")
        time.sleep(0.3)
        original(*given)

    gradual.data.cache._make = slowly
    data = FileDataModule(**arguments)
    barrier.wait()
    data.prepare_data()
    data.setup()
    assert len(data.domains.in_domain) == 20


def test_one_of_two_processes_tokenizes_and_the_other_waits(tmp_path, tokenizer_folder):
    file, log = write(tmp_path / "a.jsonl", ROWS), tmp_path / "log"
    arguments = {"in_domain": file, "cache_dir": str(tmp_path / "cache")}
    arguments |= {"text_column": "text", "tokenizer": tokenizer_folder}
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=_open_at_once, args=(arguments, log, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert log.read_text() == "made\n"


# Mistakes


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


def test_more_tokens_than_the_model_takes(make, tmp_path):
    assert "max_length is 7: " in refused(make(write(tmp_path / "a.jsonl", ROWS), tokens=True, max_length=7))


def test_texts_are_cut_to_what_the_encoder_takes(make, tmp_path, tokenizer_folder):
    shutil.copytree(tokenizer_folder, tmp_path / "encoder")
    BertConfig(max_position_embeddings=4).save_pretrained(tmp_path / "encoder")
    data = make(write(tmp_path / "a.jsonl", ROWS), tokens=True, tokenizer=str(tmp_path / "encoder"))
    assert max(data.domains.in_domain.lengths) == 4


def test_without_the_package_it_says_how_to_get_it(make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'gradual[files]'" in refused(make(write(tmp_path / "a.jsonl", ROWS)))


def test_without_pyarrow_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "gradual.data.arrow")
    with pytest.raises(InputError, match=r"needs the package pyarrow.*pip install 'gradual\[files\]'"):
        importlib.import_module("gradual.data.arrow")


# The whole way


def test_fit_from_files_on_the_command_line(tmp_path, tokenizer_folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gradual"])
    pool = [{"id": f"p{i}", "text": "dog ran", "label": 0} for i in range(30)]
    data = {"in_domain": write(tmp_path / "in.jsonl", ROWS), "out_of_domain": write(tmp_path / "pool.csv", pool)}
    data |= {"val": write(tmp_path / "val.tsv", [{**row, "id": f"v{i}"} for i, row in enumerate(ROWS)])}
    data |= {"test": write(tmp_path / "test.parquet", [{**row, "id": f"t{i}"} for i, row in enumerate(ROWS)])}
    data |= {"text_column": "text", "tokenizer": tokenizer_folder, "cache_dir": tmp_path / "cache"}
    data |= {"label_column": "label", "id_column": "id", "batch_tokens": 64}
    given = [f"--data.{name}={value}" for name, value in data.items()]
    run_dir = tmp_path / "run"
    given += ["--schedule=[10, 0]", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--optimizer.lr=0.1"]
    main(["fit", "--model=bag_of_words.WordCounts", "--data=gradual.FileDataModule", *given, f"--run_dir={run_dir}"])
    results = path_results(run_dir)
    assert [stage["out_of_domain"] for stage in results["stages"]] == [10, 0]
    assert set(results["final"]["test"]) == {"loss"}
    ids = (run_dir / "seed-0/10/sample.txt").read_text().split()
    assert len(ids) == 10
    assert set(ids) < {row["id"] for row in pool}


def test_a_dataset_survives_the_way_to_another_process(make, tmp_path):
    data = make(write(tmp_path / "a.jsonl", ROWS), tokens=True, id_column="id").domains.in_domain
    copy: FileDataset = pickle.loads(pickle.dumps(data))
    assert copy[7] == data[7]
    assert list(copy.ids) == [row["id"] for row in ROWS]
