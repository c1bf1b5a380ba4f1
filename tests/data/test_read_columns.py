"""The columns that are read: others are not checked, and a missing one or a missing value is named."""

import pyarrow as pa
import pyarrow.parquet as pq
from row_files import examples, refused


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
