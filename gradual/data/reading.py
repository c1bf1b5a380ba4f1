"""Reading of example files row by row, exactly as they are, or with an error that names file, line and column.

CSV and TSV are read with Python's ``csv`` (strict), JSON lines with ``json``: neither guesses types, fills short rows
or drops quotation marks, and both report the line. Parquet is read with pyarrow. CoNLL and folders of ``datasets`` have
modules of their own.
"""

from __future__ import annotations

import csv
import math
import sys
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from gradual.data.arrow import pa, pq
from gradual.data.column_types import what
from gradual.data.conll import read_conll
from gradual.data.formats import Columns, format_of
from gradual.data.rows import ROWS, Rows, cast, check_bytes, chosen, first_line, listed, open_text, plain_schema
from gradual.data.saved_datasets import read_saved, saved_names, saved_schema
from gradual.data.text import JSONError, parse_json, parse_json_array, read_text
from gradual.errors import InputError

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LEVELS = 20  # of nested lists and objects, at most


def read(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read the examples of a file; an empty cell of CSV or TSV is None, except in text columns.

    Raises:
        InputError: The file cannot be read, or its meaning is ambiguous.
    """
    found = _READERS[format_of(path)](path, columns.of(path))
    common = _common_names(path, columns)
    return (_renamed(rows, common) for rows in found) if common else found


def _common_names(path: Path, columns: Columns) -> dict[str, str]:
    """For each column that a file calls by another name, the name under which it is read."""
    return {own: name for name, own in columns.own.get(path, {}).items()}


def _renamed(rows: Rows, common: Mapping[str, str]) -> Rows:
    arrays = {common.get(name, name): array for name, array in rows.columns.items()}
    return Rows(arrays, rows.places, rows.names)


def column_names(path: Path) -> list[str]:
    """Read the names of a file's columns, of JSON lines those of its first examples.

    Raises:
        InputError: The file cannot be read.
    """
    if format_of(path) == "Parquet":
        with _parquet(path) as file:
            return list(file.schema_arrow.names)
    if format_of(path) == "datasets":
        return saved_names(path)
    first = next(iter(read(path, Columns(()))), None)
    return [] if first is None else list(first.names)


def read_schema(path: Path, columns: Columns) -> tuple[pa.Schema, int]:
    """Read which columns of a file with types are used, with plain types, and its number of examples, but no data.

    Args:
        path: A Parquet file, or a folder of ``datasets``.
        columns: The columns to read.

    Raises:
        InputError: The file cannot be read, lacks a column of ``columns``, or has one of an unsupported type.
    """
    if format_of(path) != "Parquet":
        schema, rows = saved_schema(path, columns.of(path))
    else:
        with _parquet(path) as file:
            schema, rows = plain_schema(path, file.schema_arrow, columns.of(path)), file.metadata.num_rows
    common = _common_names(path, columns)
    return pa.schema([field.with_name(common.get(field.name, field.name)) for field in schema]), rows


# CSV and TSV


def _read_cells(delimiter: str, path: Path, columns: Columns) -> Iterator[Rows]:
    with open_text(path) as file, _long_cells():
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header: list[str] = []
        line = 0
        while True:
            try:
                records = list(islice(reader, ROWS if header else 1))
            except csv.Error:
                if not header:
                    _check_separator(path, delimiter)
                line = _line_of_bad_quotes(path, delimiter)
                raise InputError(
                    f"{path}:{line}: a field begins with a quotation mark but does not end with one; quotation marks "
                    "inside such a field must be doubled."
                ) from None
            if not records:
                break
            places: Sequence[int] = range(line + 1, line + len(records) + 1)
            if reader.line_num != places[-1] or not all(records):
                records, places = _placed(path, delimiter, line + 1, records)
            line = reader.line_num
            if records and not header:
                header = records[0]
                if len(header) == 1:
                    _check_separator(path, delimiter)
                names = chosen(path, header, columns.names)
                yield Rows({name: pa.array([], pa.string()) for name in names}, [], header)
            elif records:
                _check_widths(path, header, records, places)
                yield Rows(_cells(records, header, names, columns.text), places, header)
        if not header:
            raise InputError(f"{path} is empty; its first line must name the columns.")


def _check_separator(path: Path, delimiter: str) -> None:
    """Refuse a file whose first line is several names if another delimiter separates them."""
    with open_text(path) as file:
        lines = ((line, text.strip("\r\n")) for line, text in enumerate(file, start=1))
        line, text = next((line, text) for line, text in lines if text)
    for other, separators in _SEPARATORS.items():
        with suppress(csv.Error):
            names = next(csv.reader([text], delimiter=other, strict=True))
            if other != delimiter and len(names) > 1 and all(name and name == name.strip() for name in names):
                raise InputError(
                    f"{path}:{line}: {text!r} seems to be {len(names)} names separated by {separators}; the fields of "
                    f"a {format_of(path)} file must be separated by {_SEPARATORS[delimiter]}."
                )


def _placed(path: Path, delimiter: str, line: int, records: Sequence[list[str]]) -> tuple[list[list[str]], list[int]]:
    """Find the rows, without blank lines, and the line where each begins, if not every line is one row."""
    rows, places = [], []
    for record in records:
        lines = delimiter.join(record).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if record:
            if delimiter == "\t" and len(lines) > 1 and all(part.count("\t") == len(record) - 1 for part in lines):
                # each line may be a row, if the quotation marks that join them are part of the text
                raise InputError(
                    f"{path}:{line}: {len(lines)} lines are one row if their quotation marks quote a field, but "
                    f"{len(lines)} rows if the marks are part of the text; write the file as CSV or JSON lines."
                )
            rows.append(record)
            places.append(line)
        line += len(lines)
    return rows, places


def _check_widths(path: Path, header: Sequence[str], records: Sequence[list[str]], places: Sequence[int]) -> None:
    if set(map(len, records)) == {len(header)}:
        return
    line, found = next((line, len(row)) for line, row in zip(places, records) if len(row) != len(header))
    raise InputError(f"{path}:{line}: found {found} fields, expected {len(header)} ({listed(header)}).")


def _line_of_bad_quotes(path: Path, delimiter: str) -> int:
    line = 0
    with open_text(path) as file, suppress(csv.Error):
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        for _ in reader:
            line = reader.line_num
    return line + 1


def _cells(
    records: Sequence[Sequence[str]], header: Sequence[str], names: Sequence[str], text: Collection[str]
) -> dict[str, pa.Array]:
    by_name = dict(zip(header, zip(*records)))
    return {
        name: pa.array(by_name[name] if name in text else [cell or None for cell in by_name[name]], pa.string())
        for name in names
    }


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lift the limit of ``csv`` on the length of a cell, which applies to the whole process."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


# JSON lines


def _read_json(path: Path, columns: Columns) -> Iterator[Rows]:
    for values, places in _arrays(path) if _is_array(path) else _lines(path):
        if set(map(type, values)) != {dict}:
            place, value = next((place, value) for place, value in zip(places, values) if not isinstance(value, dict))
            raise InputError(f'{path}:{place}: {what(value)} is not a JSON object, such as {{"text": "..."}}.')
        yield _fields(path, places, values, columns)


def _is_array(path: Path) -> bool:
    with open_text(path, "\n") as file:
        first = next((line for line in file if not line.isspace()), "")
    return first.lstrip().startswith("[")


def _lines(path: Path) -> Iterator[tuple[list[Any], Sequence[int]]]:
    """Parse the lines that are not blank; yields values and their lines."""
    with open_text(path, "\n") as file:
        line = 1
        while lines := list(map(str.rstrip, islice(file, ROWS))):
            places: Sequence[int] = range(line, line + len(lines))
            line += len(lines)
            if not all(lines):
                places = [place for place, text in zip(places, lines) if text]
                lines = list(filter(None, lines))
            values = []
            try:
                for text in lines:
                    values.append(parse_json(text))
            except JSONError as error:
                raise InputError(f"{path}:{places[len(values)]}: {error}; a line must be one JSON object.") from None
            if values:
                yield values, places


def _arrays(path: Path) -> Iterator[tuple[list[Any], Sequence[int]]]:
    """Parse a file that is one array; yields entries and their lines."""
    entries = parse_json_array(read_text(path))
    try:
        while found := list(islice(entries, ROWS)):
            yield [value for _, value in found], [line for line, _ in found]
    except JSONError as error:
        raise InputError(f"{path}:{error.line}: {error}; the file must be one array of JSON objects.") from None


def _fields(path: Path, places: Sequence[int], objects: Sequence[dict[str, Any]], columns: Columns) -> Rows:
    names = list(dict.fromkeys(chain.from_iterable(objects)))
    found = {}
    for name in names if columns.names is None else [name for name in columns.names if name in names]:
        try:
            values = list(map(itemgetter(name), objects))
        except KeyError:  # some lack it
            values = [fields.get(name) for fields in objects]
        if name == columns.ids and not set(map(type, values)) <= {str, type(None)}:
            values = [_id(path, place, name, value) for place, value in zip(places, values)]
        found[name] = _array(path, places, name, values, columns)
    return Rows(found, places, names)


def _id(path: Path, place: int, name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{path}:{place}: '{name}' is {what(value)}; an id must be text or an integer.")


def _array(path: Path, places: Sequence[int], name: str, values: Sequence[Any], columns: Columns) -> pa.Array:
    array = _of_one_kind(values)
    if array is not None:
        return array
    # the first value that does not fit those before it
    last = bisect_left(range(len(values)), True, key=lambda index: _of_one_kind(values[: index + 1]) is None)
    found = f"{path}:{places[last]}: '{name}' is {what(values[last])}"
    if _of_one_kind([values[last]]) is None:
        raise InputError(
            f"{found}, which cannot be read exactly (two kinds in one list, more than 64 bits, or {_LEVELS} levels)."
        )
    for place, value in zip(places, values):
        if _of_one_kind([value, values[last]]) is None:
            raise InputError(clash(found, f"{what(value)} in line {place}", columns.unused(name)))
    raise InputError(f"{found}, which does not fit the lines before.")


def clash(found: str, other: str, unused: bool) -> str:
    """Write the sentence for two values of different kinds in one column, which may be left out if it is unused."""
    return f"{found}, but {other}; a column must hold one kind of value{', or be left out of columns' * unused}."


def _of_one_kind(values: Sequence[Any]) -> pa.Array | None:
    """Make an Arrow array of JSON values; None if they have different kinds, or Arrow cannot hold them exactly."""
    try:
        array = pa.array(values)
    except OverflowError:
        try:
            array = pa.array(values, pa.uint64())
        except (pa.ArrowException, OverflowError, TypeError):
            return None
    except (pa.ArrowException, TypeError):
        return None
    return None if _deep(array.type) or _odd_among_numbers(values, array.type) else array


def _deep(type_: pa.DataType, levels: int = _LEVELS) -> bool:
    return not levels or any(_deep(type_.field(index).type, levels - 1) for index in range(type_.num_fields))


def _odd_among_numbers(values: Iterable[Any], type_: pa.DataType) -> bool:
    """Whether Arrow took true or false for a number, or a number is too large for 64 bits."""
    if pa.types.is_floating(type_):
        values = list(values)
        return bool in set(map(type, values)) or math.inf in values or -math.inf in values
    if pa.types.is_list(type_):
        return _odd_among_numbers(chain.from_iterable(filter(None, values)), type_.value_type)
    if pa.types.is_struct(type_):
        objects = [value for value in values if value]
        return any(_odd_among_numbers([value.get(field.name) for value in objects], field.type) for field in type_)
    return False


# Parquet


def _read_parquet(path: Path, columns: Columns) -> Iterator[Rows]:
    schema, _ = read_schema(path, columns)
    with _parquet(path) as file:
        row = 1
        for batch in file.iter_batches(ROWS, columns=schema.names):
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid as error:
                last = row + len(batch) - 1
                raise InputError(f"{path}, rows {row} to {last}: cannot be read as Parquet ({error}).") from None
            places = range(row, row + len(batch))
            arrays = {
                field.name: cast(path, places, field.name, batch.column(field.name), field.type) for field in schema
            }
            yield Rows(arrays, places, schema.names)
            row += len(batch)


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    check_bytes(path)
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or first_line(error)}.") from None
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {first_line(error)}.") from None


_READERS: dict[str, Callable[[Path, Columns], Iterator[Rows]]] = {
    "JSON lines": _read_json,
    "CSV": partial(_read_cells, ","),
    "TSV": partial(_read_cells, "\t"),
    "Parquet": _read_parquet,
    "CoNLL": read_conll,
    "datasets": read_saved,
}
