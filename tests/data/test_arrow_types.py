"""Arrow's types in Parquet files: read exactly, made one for all shards, or refused."""

import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_files import examples, refused, same, tables

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
