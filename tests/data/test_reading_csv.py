"""CSV and TSV: separators, quotation marks and empty cells; a row in doubt is refused with its line."""

import pytest
from row_files import examples, refused, tables

import gradual.data.tables
from gradual.data.formats import Columns


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
