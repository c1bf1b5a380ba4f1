"""Files come out as what they say, whatever their format, their order and their values, or are refused with a place."""

import csv
import datetime
import decimal
import json
import math
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradual.data.tables
from gradual import FileDataModule, InputError
from gradual.data.formats import Columns
from gradual.data.tables import Part, common_types, fit, scan


def write(path: Path, rows: list[dict], **options) -> Path:
    """Write a file in the format of its name, with no code of ours."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, **options) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], dialect="excel-tab" if path.suffix == ".tsv" else "excel")
            writer.writeheader()
            writer.writerows(rows)
    return path


def tables(*parts: list[Path]) -> list[list[dict]]:
    """The examples of several parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scanned = [
            Part(files, Columns(), scan(files, Columns(), folder / f"rows-{index}", 1))
            for index, files in enumerate(parts)
        ]
        types = common_types(scanned)
        found = []
        for index, part in enumerate(scanned):
            (folder / f"fitted-{index}").mkdir()
            paths = fit(part, types, folder / f"rows-{index}", folder / f"fitted-{index}")
            found.append(
                [row for path in paths for row in pa.ipc.open_stream(path.read_bytes()).read_all().to_pylist()]
            )
        return found


def same(given, read) -> bool:
    """Whether what was read is what was given: a field that an object lacks is None, and 1 may be 1.0."""
    if isinstance(given, dict):
        return set(given) <= set(read) and all(same(given.get(name), value) for name, value in read.items())
    if isinstance(given, list):
        return isinstance(read, list) and len(given) == len(read) and all(map(same, given, read))
    if isinstance(given, bool) or isinstance(read, bool):
        return given is read
    numbers = isinstance(given, int | float) and isinstance(read, int | float)
    return given == read and (numbers or type(given) is type(read))


@pytest.fixture
def module(tmp_path):
    """Makes a data module with a cache of the test's own, of files that are given as their texts."""

    def make(**parts):
        settings = {name: parts.pop(name) for name in list(parts) if name.endswith("column") or name == "columns"}
        files = {
            part: [str(path) for path in (given if isinstance(given, list) else [given])]
            for part, given in parts.items()
        }
        return FileDataModule(**files, **settings, cache_dir=str(tmp_path / "cache"), num_proc=1)

    return make


@pytest.fixture
def put(tmp_path):
    """Writes a file of text."""

    def put(name, text):
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        return tmp_path / name

    return put


def examples(dataset) -> list[dict]:
    return [dataset[index] for index in range(len(dataset))]


def refused(data) -> str:
    with pytest.raises(InputError) as error:
        data.setup()
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    return str(error.value)


# Random tables

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


# CSV and TSV


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("label,text\n0,hello, world\n1,see, you\n", ":2: found 3 fields, expected 2 (label, text)."),
        ("id,label,text\nq1,0,hello,\nq2,1,see,\n", ":2: found 4 fields, expected 3 (id, label, text)."),
        ('a,b\n\n"x\ny",1\n2\n', ":5: found 1 fields, expected 2 (a, b)."),
        ('a,b\n1,2\n"x"y,3\n', ":3: a field begins with a quotation mark but does not end with one"),
        ('a,b\n1,2\n"x,3\n4,5\n', ":3: a field begins with a quotation mark but does not end with one"),
        ('a\n"x\n', ":2: a field begins with a quotation mark but does not end with one"),
        ("a,b,a\n1,2,3\n", " has 2 columns named 'a'; a name must be unique."),
        ("a,b\n1,2\n\udcff,3\n", ":3: not UTF-8 (byte 0xff); convert the file."),
        ("\n\n", " is empty; its first line must name the columns."),
    ],
)
def test_a_row_in_doubt_is_refused_with_its_line(module, put, text, says):
    assert f"a.csv{says}" in refused(module(in_domain=put("a.csv", text)))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "a.csv",
            "text;label\na, b;1\n",
            ":1: 'text;label' seems to be 2 names separated by semicolons; the fields of",
        ),
        ("a.csv", '\n"text";"label"\n"a";"1"\n', ':2: \'"text";"label"\' seems to be 2 names separated by semicolons'),
        (
            "a.csv",
            "a\tb\tc\n",
            ":1: 'a\\tb\\tc' seems to be 3 names separated by tabs; the fields of a CSV file must be",
        ),
        (
            "a.tsv",
            "text,label\r\na,1\r\n",
            ":1: 'text,label' seems to be 2 names separated by commas; the fields of a TSV",
        ),
    ],
)
def test_a_first_line_with_other_separators_is_refused(module, put, name, text, says):
    assert f"{name}{says}" in refused(module(in_domain=put(name, text)))


@pytest.mark.parametrize("header", ["text", '"text;label"', "text; label", ";text", "\t"])
def test_an_only_column_is_one_where_its_name_is_no_list_of_names(put, header):
    (read,) = tables([put("a.csv", f"{header}\na;b\n")])
    assert read == [{header.strip('"'): "a;b"}]


def test_a_bad_row_is_found_behind_many_good_ones(module, put):
    good = 'a,"x\ny"\n' * 1500
    assert "a.csv:3002: found 3 fields" in refused(module(in_domain=put("a.csv", f"a,b\n{good}1,2,3\n")))
    assert "a.csv:3002: a field begins" in refused(module(in_domain=put("a.csv", f'a,b\n{good}"1"2,3\n')))


def test_labels_are_text_whatever_the_file_or_the_piece_that_they_are_in(module, put):
    files = [put("1.csv", "text,label\na,B\nb,03\n"), put("2.csv", "text,label\nc,03\nd,04\n")]
    many = put("3.csv", "text,label\n" + "c,03\nd,04\n" * 1100 + "a,B\nb,03\n" * 1100)
    for those in (files, files[::-1], [many], [*files, many]):
        data = module(in_domain=those, label_column="label")
        data.setup()
        assert data.label_names == ["03", "04", "B"]
    numbers, text = put("4.csv", "text,label\na,1\nb,0\n"), put("5.csv", "text,label\nc,x\nd,1\n")
    data = module(in_domain=numbers, out_of_domain=text, val=numbers, label_column="label")
    data.setup()
    assert data.label_names == ["0", "1", "x"]
    assert [row["label"] for row in examples(data.domains.val)] == [1, 0]
    data = module(in_domain=numbers, label_column="label")
    assert [row["label"] for row in examples(data.domains.in_domain)] == [1, 0]
    assert data.label_names == []


def test_quotation_marks_of_a_tsv(module, put):
    words = 'text\tlabel\n"Hello she said\t0\nplain\t1\nhe said "no" to me\t0\nend"\t1\nlast\t0\n'
    assert "q.tsv:2: a field begins with a quotation mark" in refused(module(in_domain=put("q.tsv", words)))
    two_ways = 'text\tlabel\nfirst\t0\n"Hello she said\t0\nend"\t1\nlast\t0\n'
    message = refused(module(in_domain=put("q.tsv", two_ways)))
    assert "q.tsv:3: 2 lines are one row if their quotation marks quote a field, but 2 rows if" in message
    clear = 'text\tlabel\nhe said "no"\t0\n"quoted"\t1\n"two\nlines"\t0\n"a\tb ""c"""\t1\n'
    read = examples(module(in_domain=put("q.tsv", clear)).domains.in_domain)
    assert [row["text"] for row in read] == ['he said "no"', "quoted", "two\nlines", 'a\tb "c"']
    commas = '"a, b\nc, d",1\n'  # lines of a letter, say: in a CSV quotation marks are no part of the text
    read = examples(module(in_domain=put("q.csv", f"text,label\n{commas}")).domains.in_domain)
    assert read == [{"text": "a, b\nc, d", "label": 1}]


def test_an_empty_cell_is_no_value_but_empty_text_where_text_is_read(put, tmp_path):
    file = put("a.csv", 'text,note,n\n,,\n"",a,1\n')
    (read,) = tables([file])
    assert read == [{"text": None, "note": None, "n": None}, {"text": None, "note": "a", "n": 1}]
    (rows,) = list(gradual.data.tables.read(file, Columns(text=("text",))))[1:]
    assert rows.columns["text"].to_pylist() == ["", ""]


def test_cells_may_be_long(put):
    (read,) = tables([put("a.csv", f"a,b\n{'x' * 200_000},1\n")])
    assert read == [{"a": "x" * 200_000, "b": 1}]


# JSON lines


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"text": "hi"}\n{"text": 12}\n', ":2: 'text' is the number 12, but the text 'hi' in line 1; a column must"),
        ('{"a": true}\n{"a": 1.5}\n', ":2: 'a' is the number 1.5, but true in line 1; a column must"),
        ('{"a": 1.5}\n{"a": null}\n{"a": true}\n', ":3: 'a' is true, but the number 1.5 in line 1; a column must"),
        ('{"a": []}\n{"a": [1]}\n{"a": ["x"]}\n', ":3: 'a' is the list ['x'], but the list [1] in line 2; a column"),
        ('{"a": {"b": 1}}\n{"a": {"b": "x"}}\n', ":2: 'a' is the object {'b': 'x'}, but the object {'b': 1} in line 1"),
        ('{"a": [1, "x"]}\n', ":1: 'a' is the list [1, 'x'], which cannot be read exactly"),
        (
            '{"a": 1}\n\n{"a": 18446744073709551616}\n',
            ":3: 'a' is the number 18446744073709551616, which cannot be read",
        ),
        (
            '{"a": 0.5}\n{"a": 9007199254740993}\n',
            ":2: 'a' is the number 9007199254740993, but the number 0.5 in line 1",
        ),
        (
            '{"a": 1, "a": 2}\n',
            ":1: not JSON that can be read (the field 'a' comes twice); a line must be one JSON object.",
        ),
        ('{"a": NaN}\n', ":1: not JSON that can be read (NaN is not a JSON number)"),
        ('{"a": [1e999]}\n', ":1: 'a' is the list [inf], which cannot be read exactly"),
        ('{"a": 1}\n{"a": 1} {"a": 2}\n', ":2: not JSON (Extra data, column 10)"),
        ('{"a": "\\ud800"}\n', ":1: has the escape \\ud800 alone, half of a character"),
        ('{"a": ' + "[" * 30 + "]" * 30 + "}\n", ":1: 'a' is the list [[["),
        ('[{"a": 1},\n {"a": 2},\n {"a": }]', ":3: not JSON (Expecting value, column 8)"),
        ('[{"a": 1},\n {"a": 2}', ":2: not JSON (Expecting ',' delimiter"),
        ('[{"a": 1},\n 7]', ":2: the number 7 is not a JSON object"),
        ('[{"a": 1},\n]', ":2: not JSON (Expecting value"),
        ('[{"a": 1}]\n{"a": 1}', ":2: not JSON (Extra data, column 1)"),
        ("[]", " holds no examples."),
        ("\n \n", " holds no examples."),
        ("{}\n{}\n", ": none of its 2 examples has a field."),
    ],
)
def test_malformed_json_lines_are_refused_with_the_line(module, put, text, says):
    assert f"a.jsonl{says}" in refused(module(in_domain=put("a.jsonl", text)))


def test_an_array_may_stand_in_several_lines(put):
    assert tables([put("a.json", '\n[ {"a":\n1}\n, {"a": 2, "b": "\\u00e9"} ] \n')]) == [
        [{"a": 1, "b": None}, {"a": 2, "b": "é"}]
    ]


def test_a_column_is_of_one_kind_in_all_files_and_parts(module, put):
    text, number = put("t.jsonl", '{"x": "a"}\n'), put("n.jsonl", '{"x": null}\n{"x": 1}\n')
    says = "n.jsonl:2: 'x' is the number 1, but the text 'a' in "
    assert says in refused(module(in_domain=[text, number]))
    assert says in refused(module(in_domain=text, val=number))
    assert "t.jsonl:1: 'x' is the text 'a', but the number 1 in " in refused(module(in_domain=number, test=text))
    cells, words = put("n.csv", "x\n1\n2\n"), put("w.csv", "x\n1\nb\n")
    assert [row["x"] for row in examples(module(in_domain=text, val=cells).domains.val)] == ["1", "2"]
    assert [row["x"] for row in examples(module(in_domain=number, val=cells).domains.val)] == [1, 2]
    assert "w.csv:3: 'x' is the text 'b', but the number 1 in " in refused(module(in_domain=number, val=words))
    typed = put("x.parquet", "")
    pq.write_table(pa.table({"x": [1.5]}), typed)
    assert "x.parquet, row 1: 'x' is the number 1.5, but the text 'a' in " in refused(module(in_domain=text, val=typed))
    assert [row["x"] for row in examples(module(in_domain=typed, val=cells).domains.val)] == [1.0, 2.0]


def test_an_integer_that_a_column_of_fractions_cannot_hold_is_refused(module, put):
    large, half = put("l.jsonl", f'{{"x": 1}}\n{{"x": {2**53 + 1}}}\n'), put("h.jsonl", '{"x": 0.5}\n')
    for files in ([large, half], [half, large]):
        message = refused(module(in_domain=files))
        assert f"l.jsonl:2: 'x' is {2**53 + 1}, which a column of numbers cannot hold exactly." in message


@pytest.mark.parametrize("order", [1, -1])
def test_fields_that_are_empty_first_are_read_in_every_order(module, put, order):
    files = [
        put("1.jsonl", '{"t": "a", "x": null, "y": []}\n'),
        put("2.jsonl", '{"t": "b", "x": "hello", "y": ["u"]}\n'),
    ]
    read = examples(module(in_domain=files[::order]).domains.in_domain)
    assert read[::order] == [{"t": "a", "x": None, "y": []}, {"t": "b", "x": "hello", "y": ["u"]}]


def test_text_that_looks_like_a_date_is_text(module, put):
    days = put("d.jsonl", '{"label": "2020-02-02"}\n{"label": "2020-02-03"}\n')
    data = module(in_domain=days, label_column="label")
    data.setup()
    assert data.label_names == ["2020-02-02", "2020-02-03"]


# Ids


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_ids_are_compared_as_text(module, put, tmp_path, suffix):
    rows = [{"id": id_, "t": "a"} for id_ in ("1", "007", "2021-05-04", "x")]
    pool = write(tmp_path / f"pool.{suffix}", rows)
    mixed = put("in.jsonl", '{"id": 1, "t": "a"}\n{"id": "x2", "t": "b"}\n{"id": 7, "t": "c"}\n')
    test = put("test.csv", "id,t\n2021-05-04,a\n1,a\n7,a\n")
    data = module(in_domain=mixed, out_of_domain=pool, test=test, id_column="id")
    assert (data.in_domain_size, data.pool_size) == (1, 2)
    assert list(data.domains.in_domain.ids) == ["1", "x2", "7"]
    assert list(data.domains.out_of_domain.ids) == ["1", "007", "2021-05-04", "x"]


@pytest.mark.parametrize("value", ["1.5", "true", "[1]"])
def test_an_id_is_text_or_an_integer(module, put, value):
    file = put("a.jsonl", f'{{"id": "a"}}\n{{"id": {value}}}\n')
    message = refused(module(in_domain=file, id_column="id"))
    assert "a.jsonl:2: 'id' is " in message
    assert message.endswith("an id must be text or an integer.")


def test_ids_of_parquet_are_text_or_integers(module, tmp_path):
    pq.write_table(pa.table({"id": pa.array([2**64 - 1], pa.uint64())}), tmp_path / "a.parquet")
    assert list(module(in_domain=tmp_path / "a.parquet", id_column="id").domains.in_domain.ids) == [str(2**64 - 1)]
    pq.write_table(pa.table({"id": [1.5]}), tmp_path / "a.parquet")
    message = refused(module(in_domain=tmp_path / "a.parquet", id_column="id"))
    assert message.endswith("a.parquet: 'id' holds numbers; an id must be text or an integer.")


# Columns


def test_columns_that_are_not_read_are_not_checked(module, put, tmp_path):
    wanted = {"columns": ["text", "label"]}
    late = put("1.csv", "text,label,code\n" + "a,0,11\n" * 1001 + "c,1,11b\n")
    assert len(module(in_domain=late, columns=["text"]).domains.in_domain) == 1002
    mixed = put("1.jsonl", '{"text": "a", "label": 0, "x": 1}\n{"x": "b", "label": 1, "text": "c", "x2": [1, "a"]}\n')
    other = put("2.jsonl", '{"text": "b", "label": 1, "y": 2}\n')
    assert len(module(in_domain=[mixed, other], **wanted).domains.in_domain) == 3
    assert "1.jsonl:2: 'x' is the text 'b', but the number 1 in line 1" in refused(module(in_domain=mixed))
    tables = [put(f"{k}.csv", f"label,{name},text\n0,1,a\n") for k, name in ((3, "x"), (4, "y"))]
    assert examples(module(in_domain=tables, **wanted).domains.in_domain) == [{"text": "a", "label": 0}] * 2
    shards = [tmp_path / f"{k}.parquet" for k in (1, 2)]
    odd = pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"text": ["a"], "label": [0], "x": odd}), shards[0])
    pq.write_table(pa.table({"text": ["b"], "label": [1], "y.z": [2]}), shards[1])
    assert examples(module(in_domain=shards, **wanted).domains.in_domain) == [
        {"text": "a", "label": 0},
        {"text": "b", "label": 1},
    ]
    assert "1.parquet: the column 'x' has the Arrow type map<string, int64" in refused(module(in_domain=shards[0]))


def test_a_file_that_lacks_a_column_is_named(module, put):
    first, second = put("1.jsonl", '{"text": "a"}\n{"note": "n"}\n'), put("2.jsonl", '{"txt": "b"}\n')
    assert "2.jsonl has no column 'text'; its columns are txt." in refused(
        module(in_domain=[first, second], columns=["text"])
    )
    message = refused(module(in_domain=[first, second]))
    assert "2.jsonl has 'txt' and lacks 'note', unlike " in message
    assert message.endswith("1.jsonl; list the columns to read in columns.")


def test_a_value_that_is_missing_is_named_with_its_place(module, put, tmp_path):
    good = put("1.csv", "text,label\na,0\n")
    bad = put("2.csv", 'text,label\n"a\nb",0\n\nc,\nd,\n')
    message = refused(module(in_domain=[good, bad], label_column="label"))
    assert message.endswith("2.csv:5: 'label' has no value (1 more have none); every example needs one.")
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": [0, None, 1]}), tmp_path / "3.parquet")
    message = refused(module(in_domain=good, test=tmp_path / "3.parquet", label_column="label"))
    assert message.endswith("3.parquet, row 2: 'label' has no value; every example needs one.")
    assert len(module(in_domain=good, predict=bad, label_column="label").domains.predict) == 3


def test_lengths_are_integers(module, put):
    for text, says in (
        ("n\n1\n2.5\n", "a.csv:3: 'n' is the text '2.5'"),
        ("n\n1\nb\n", "a.csv:3: 'n' is the text 'b'"),
    ):
        message = refused(module(in_domain=put("a.csv", text), length_column="n"))
        assert says in message
        assert message.endswith("length_column must hold integers.")


def test_data_to_predict_has_the_types_of_the_other_parts(module, put):
    train = put("a.csv", "x,n,label\n01,1,a\n2,2,b\n")
    predict = put("p.csv", "x,n,label\n1,3,7\n2,4,8\n")
    data = module(in_domain=train, predict=predict, label_column="label")
    assert examples(data.domains.predict) == [{"x": "1", "n": 3, "label": -100}, {"x": "2", "n": 4, "label": -100}]
    typed = put("p.jsonl", '{"x": "1", "n": 3, "label": 7}\n')
    assert examples(module(in_domain=train, predict=typed, label_column="label").domains.predict) == [
        {"x": "1", "n": 3}
    ]
    fraction = put("f.jsonl", '{"x": "1", "n": 1}\n{"x": "1", "n": 2.5}\n')
    message = refused(module(in_domain=train, predict=fraction, label_column="label"))
    assert message.endswith("f.jsonl:2: 'n' is the number 2.5, but the other parts hold integers in it.")


# Files without examples


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
    assert refused(module(in_domain=[head, head])).endswith("h.csv holds no examples, nor do the files after it.")


# Arrow's types

DAY, MOMENT = datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, 678901)
READ = {
    "tokens": pa.array([["a", None], [], None]),
    "large lists": pa.array([[1], []], pa.large_list(pa.int32())),
    "lists of one length": pa.array([[1, 2], None], pa.list_(pa.float32(), 2)),
    "lists of lists": pa.array([[[1], []], [[2]]]),
    "objects": pa.array([{"a": 1, "b": [{"c": "x"}]}, {"a": None, "b": []}]),
    "string views": pa.array(["a", None], pa.string_view()),
    "large text": pa.array(["a", None], pa.large_string()),
    "dictionaries": pa.array(["a", None, "a"]).dictionary_encode(),
    "dictionaries of integers": pa.array([7, None, 7]).dictionary_encode(),
    "lists of dictionaries": pa.array([["a", "b"], ["a"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
    "small": pa.array([-3, None], pa.int8()),
    "half": pa.array([1.5, None], pa.float16()),
    "decimals": pa.array([decimal.Decimal("1.10"), None], pa.decimal128(10, 2)),
    "small decimals": pa.array([decimal.Decimal("1.10"), None], pa.decimal32(5, 2)),
    "dates": pa.array([DAY, None], pa.date32()),
    "dates in milliseconds": pa.array([DAY, None], pa.date64()),
    "moments": pa.array([MOMENT, None], pa.timestamp("us")),
    "moments of a place": pa.array([MOMENT, None], pa.timestamp("us", "Europe/Berlin")),
    "times": pa.array([datetime.time(1, 2, 3, 4)], pa.time64("us")),
    "bytes": pa.array([b"\xff", None], pa.binary()),
    "bytes of one length": pa.array([b"xy", None], pa.binary(2)),
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("name", READ)
def test_arrow_types_are_read_exactly(tmp_path, name):
    array = READ[name]
    pq.write_table(pa.table({"c": array}), tmp_path / "a.parquet")
    (read,) = tables([tmp_path / "a.parquet"])
    assert [row["c"] for row in read] == array.to_pylist()


@pytest.mark.parametrize(
    "name", ["tokens", "objects", "string views", "dictionaries", "unsigned", "decimals", "moments"]
)
def test_arrow_types_come_through_the_data_module(module, tmp_path, name):
    pq.write_table(pa.table({"c": READ[name]}), tmp_path / "a.parquet")
    data = module(in_domain=tmp_path / "a.parquet", val=tmp_path / "a.parquet")
    assert [row["c"] for row in examples(data.domains.in_domain)] == READ[name].to_pylist()
    (batch,) = data.val_dataloader()
    assert list(batch["c"]) == READ[name].to_pylist()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), ": the column 'c' has the Arrow type map<"),
        (pa.array([[1]], pa.list_view(pa.int64())), ": the column 'c' has the Arrow type list_view<"),
        (pa.array([b"0" * 16], pa.uuid()), ": the column 'c' has the Arrow type extension<arrow.uuid>"),
        (
            pa.array([0, 123_456_789], pa.time64("ns")),
            ", row 2: 'c' is 00:00:00.123456789, which a column of time64[us]",
        ),
    ],
    ids=str,
)
def test_arrow_types_that_cannot_be_read_are_refused(module, tmp_path, array, says):
    pq.write_table(pa.table({"c": array}), tmp_path / "a.parquet")
    assert f"a.parquet{says}" in refused(module(in_domain=tmp_path / "a.parquet"))


def test_types_of_shards_become_one_that_holds_both(module, tmp_path):
    def shards(*arrays):
        for index, array in enumerate(arrays):
            pq.write_table(pa.table({"c": array}), tmp_path / f"{index}.parquet")
        return [tmp_path / f"{index}.parquet" for index in range(len(arrays))]

    pairs = [
        (pa.array([1], pa.int8()), pa.array([2**40])),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.large_string())),
        (pa.array([1]), pa.array([0.5])),
        (pa.array([{"a": 1}]), pa.array([{"b": "x", "a": None}])),
        (pa.array([[1]], pa.list_(pa.int64(), 1)), pa.array([[], [2]])),
        (pa.array([MOMENT], pa.timestamp("us")), pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("s"))),
    ]
    for one, other in (*pairs, *(pair[::-1] for pair in pairs)):
        (read,) = tables(shards(one, other))
        assert all(map(same, one.to_pylist() + other.to_pylist(), [row["c"] for row in read]))
    message = refused(module(in_domain=shards(pa.array([DAY]), pa.array([MOMENT]))))
    assert "1.parquet, row 1: 'c' is datetime.datetime(2020, 1, 2" in message
    assert "but datetime.date(2020, 1, 2) in " in message
    message = refused(module(in_domain=shards(pa.array([-1]), pa.array([2**64 - 1], pa.uint64()))))
    assert message.endswith("0.parquet, row 1: 'c' is -1, which a column of unsigned integers cannot hold exactly.")


def test_integers_that_no_tensor_holds_stay_a_list(module, put):
    file = put("a.jsonl", f'{{"n": {2**64 - 1}, "m": [1]}}\n{{"n": 0, "m": [{2**62}, 2]}}\n')
    (batch,) = module(in_domain=file, val=file).val_dataloader()
    assert batch["n"] == [2**64 - 1, 0]
    assert np.array_equal(batch["m"], [[1, 0], [2**62, 2]])


# What is kept


def test_only_tables_and_notes_are_kept(module, put, tmp_path):
    file = put("a.csv", "text,label\na,1\n")
    module(in_domain=file).setup()
    refused(module(in_domain=file, val=put("b.jsonl", '{"text": 1, "label": 1}\n')))
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {"", ".found", ".lock"}
    for note in (tmp_path / "cache").glob("*.found"):
        note.write_bytes(note.read_bytes()[:20])
    assert len(module(in_domain=file).domains.in_domain) == 1
