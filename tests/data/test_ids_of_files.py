"""Ids in files: text or integers, compared as text whatever the format."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_files import refused, write


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
