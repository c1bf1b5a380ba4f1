"""Random tables come out of files as they went in, whatever the format, the order and the pieces."""

import json
import math
import tempfile
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_files import examples, refused, same, tables, write

import gradual.data.tables
from gradual import InputError
from gradual.data.formats import Columns
from gradual.data.tables import Part, common_types, fit, scan

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ODD = ["007", "1.50", "-0", "0", "1e5", "1E-5", "+1", "-1", "NaN", "true", " 1", "1 ", "1_000", "٣", "0x1", ".5", "1."]
ODD += ["1e999", '"', '""', 'a"b', '"a" b', "a,b", "a\nb", "a\r\nb", "\0"]
LARGE = list(map(str, (2**53 + 1, 2**63 - 1, 2**63, -(2**63))))
CELLS = TEXT | st.sampled_from(ODD + LARGE) | st.integers().map(str) | st.floats(allow_nan=False).map(repr)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SMALL = st.integers(-(2**53), 2**53)  # what a float holds, too
KINDS = [TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), FINITE | SMALL]
KINDS += [st.lists(kind, max_size=3) for kind in KINDS]
KINDS += [st.fixed_dictionaries({"a": KINDS[0]}, optional={"b": KINDS[6]}), st.lists(st.lists(SMALL, max_size=2))]


@st.composite
def typed_rows(draw):
    """Rows whose columns are of one kind each, with gaps."""
    kinds = {
        f"c{index}": kind for index, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4)))
    }
    row = st.fixed_dictionaries({name: st.none() | kind for name, kind in kinds.items()})
    return draw(st.lists(row, min_size=1, max_size=6))


def value_of(cells: list[str]) -> list:
    """What the cells of a column say, by JSON's own reading of numbers."""

    def number(cell):
        try:
            value = json.loads(cell, parse_constant=lambda _: None)
        except ValueError:
            return None
        known = type(value) in (int, float) and math.isfinite(value) and cell.strip() == cell
        return (-0.0 if cell == "-0" else value) if known else None

    numbers = [number(cell) for cell in cells if cell]
    kinds = set(map(type, numbers))
    large = [value for value in numbers if isinstance(value, int) and abs(value) >= 10**15]
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in numbers):
        return [number(cell) if cell else None for cell in cells]
    if kinds and kinds <= {int, float} and float in kinds and not large:
        return [float(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]


@given(typed_rows(), st.integers(0, 6), st.sampled_from([".jsonl", ".parquet"]), st.booleans())
def test_typed_tables_come_out_as_they_went_in(rows, cut, suffix, ascii_only):
    with tempfile.TemporaryDirectory() as name:
        parts = [part for part in (rows[:cut], rows[cut:]) if part]
        options = {"ensure_ascii": ascii_only} if suffix == ".jsonl" else {}
        files = [write(Path(name) / f"{index}{suffix}", part, **options) for index, part in enumerate(parts)]
        (read,) = tables(files)
        assert len(read) == len(rows)
        assert all(map(same, rows, read))
        first, *others = tables(*([file] for file in files))  # of one type in all parts, too
        assert all(map(same, rows, first + [row for other in others for row in other]))


@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6),
    st.integers(0, 6),
    st.sampled_from([".csv", ".tsv"]),
)
def test_cells_come_out_as_they_went_in(rows, cut, suffix):
    # lines of a quoted field that look like rows of a TSV are refused: a test of their own
    rows = [{name: cell.replace("\t", " ") for name, cell in zip("abc", row)} for row in rows]
    with tempfile.TemporaryDirectory() as name:
        parts = [part for part in (rows[:cut], rows[cut:]) if part]
        files = [write(Path(name) / f"{index}{suffix}", part) for index, part in enumerate(parts)]
        (read,) = tables(files)
        expected = {name: value_of([row[name] for row in rows]) for name in "abc"}
        assert [list(row.values()) for row in read] == [list(row) for row in zip(*expected.values())]
        for name, values in expected.items():
            assert [type(row[name]) for row in read] == list(map(type, values))


ANY = st.none() | st.booleans() | SMALL | st.floats(-1e9, 1e9) | TEXT | st.lists(st.none() | SMALL | TEXT, max_size=2)
ANY |= st.dictionaries(st.sampled_from("xy"), SMALL | TEXT, max_size=2)


@given(st.lists(st.lists(st.none() | ANY, min_size=1, max_size=3), min_size=1, max_size=3))
def test_values_of_json_come_out_whole_or_are_refused_in_every_order_of_the_files(columns):
    with tempfile.TemporaryDirectory() as name:
        files = [
            write(Path(name) / f"{k}.jsonl", [{"v": value} for value in values]) for k, values in enumerate(columns)
        ]
        outcomes = []
        for order in permutations(files):
            try:
                (read,) = tables(list(order))
            except InputError as error:
                outcomes.append("jsonl:" not in str(error))
                continue
            outcomes.append(None)
            expected = [value for file in order for value in columns[files.index(file)]]
            assert all(map(same, expected, [row["v"] for row in read]))
            assert len(read) == len(expected)
        assert set(outcomes) in ({None}, {False})  # all read, or all refused with a place


def test_a_file_of_several_pieces_comes_out_whole(tmp_path):
    rows = [
        {"n": k if k % 1500 else k / 2, "t": None if k < 2500 else "t", "d": {"k": k} if k > 1200 else {}}
        for k in range(3500)
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    lines[1700:1700] = ["\n", "   \n"]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    (read,) = tables([tmp_path / "a.jsonl"])
    assert all(map(same, rows, read))
    (tmp_path / "b.jsonl").write_text("{}\n" * 2100 + '{"a": 1}\n')
    (read,) = tables([tmp_path / "b.jsonl"])
    assert read == [{"a": None}] * 2100 + [{"a": 1}]


def test_files_are_read_by_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(gradual.data.tables, "_BYTES_PER_PROCESS", 1)
    files = [write(tmp_path / f"{k}.jsonl", [{"k": k, "i": i} for i in range(3)]) for k in range(4)]
    found = scan(files, Columns(), tmp_path / "rows", 2)
    assert found.rows == [3] * 4
    paths = fit(
        Part(files, Columns(), found), common_types([Part(files, Columns(), found)]), tmp_path / "rows", tmp_path
    )
    assert [pa.ipc.open_stream(path.read_bytes()).read_all()["k"].to_pylist() for path in paths] == [
        [k] * 3 for k in range(4)
    ]
    files[2].write_text('{"k": 1, "i": \n')
    with pytest.raises(InputError, match=r"2\.jsonl:1: "):
        scan(files, Columns(), tmp_path / "again", 2)


def test_a_shard_without_rows_is_accepted(module, put, tmp_path):
    schema = pa.schema([("text", pa.string()), ("label", pa.int64())])
    shards = [tmp_path / f"{k}.parquet" for k in (0, 1)]
    pq.write_table(pa.table({"text": [], "label": []}, schema=schema), shards[0])
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}, schema=schema), shards[1])
    for files in (shards, shards[::-1]):
        assert module(in_domain=shards[1], out_of_domain=files).pool_size == 2
    assert refused(module(in_domain=shards[0])).endswith("0.parquet holds no examples.")
    head, rows = put("h.csv", "text,label\n"), put("r.csv", "text,label\na,0\n")
    for files in ([head, rows], [rows, head]):
        assert examples(module(in_domain=files).domains.in_domain) == [{"text": "a", "label": 0}]
    assert refused(module(in_domain=[head, put("i.csv", "text,label\n")])).endswith(
        "h.csv holds no examples, nor do the files after it."
    )
