"""Files of rows, written with no code of the package, and what is read of them or said against them."""

import csv
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradual import InputError
from gradual.data.formats import Columns
from gradual.data.tables import Part, common_types, fit, scan


def write(path: Path, rows: list[dict], **options) -> Path:
    """Write a file in the format of its name, with no code of ours."""
    if path.suffix in (".jsonl", ".json"):
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


def examples(dataset) -> list[dict]:
    return [dataset[index] for index in range(len(dataset))]


def refused(data) -> str:
    with pytest.raises(InputError) as error:
        data.setup()
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    return str(error.value)
