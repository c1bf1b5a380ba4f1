"""A column is of one type in all files and parts, whichever comes first."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_files import examples, refused


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
