"""Ids in files: text or integers, compared as text whatever the format."""

import logging
from itertools import chain

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_files import refused
from tokenized_files import write

from gradual.data.file_dataset import ArrowColumn


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
