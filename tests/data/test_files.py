"""Anyone's own files: every format, patterns and lists of files, and the whole way from a command to a result."""

import json
import pickle
import socket
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_runs import path_results
from tokenized_files import ROWS, write

from gradual.__main__ import main
from gradual.data.file_dataset import FileDataset
from gradual.data.part_files import expand

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
    assert list(map(str, expand("val", [names[2], names[0]]))) == [names[2], names[0]]
    assert list(map(str, expand("val", f"{tmp_path}/**/**/part-*.jsonl"))) == names, "a pattern may find a file twice"
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
