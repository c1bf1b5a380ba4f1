"""From files to tables: each column gets one type, determined from all values of all files before any is converted.

The files of a part are scanned first: text formats are parsed, once, into Arrow files of rows, and the kind of each
column is determined. From the kinds of all parts follows the one type of each column, and the rows are fitted to it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gradual.data.arrow import pa
from gradual.data.column_types import Cells, Kind, convert, of_cells, what, words
from gradual.data.formats import Columns, at, format_of, has_types, size_of
from gradual.data.reading import clash, read, read_schema
from gradual.data.rows import cast, chosen
from gradual.errors import InputError

_BYTES_PER_PROCESS = 10_000_000  # with fewer, starting a process costs more than it saves


@dataclass(frozen=True)
class Found:
    """What a scan found in files.

    Attributes:
        rows: Number of examples in each file.
        kinds: The kind of each column.
    """

    rows: list[int]
    kinds: dict[str, Kind]

    def to_bytes(self) -> bytes:
        """Serialize."""
        fields = [
            pa.field(name, kind.type, metadata={"cells": str(int(kind.cells))}) for name, kind in self.kinds.items()
        ]
        return bytes(pa.schema(fields, {"rows": " ".join(map(str, self.rows))}).serialize())

    @classmethod
    def from_bytes(cls, content: bytes) -> Found:
        """Deserialize what ``to_bytes`` returned."""
        schema = pa.ipc.read_schema(pa.py_buffer(content))
        kinds = {field.name: Kind(field.type, Cells(int(field.metadata[b"cells"]))) for field in schema}
        return cls([int(rows) for rows in schema.metadata[b"rows"].split()], kinds)


@dataclass(frozen=True)
class Part:
    """Files of one format, which columns of them are read, and what was found."""

    files: Sequence[Path]
    columns: Columns
    found: Found


# Scanning


def scan(files: Sequence[Path], columns: Columns, folder: Path, processes: int) -> Found:
    """Parse files into files of rows in ``folder``, and determine the kinds of their columns.

    Raises:
        InputError: A file cannot be read, its columns differ from those of the others, or a column has two kinds.
    """
    folder.mkdir(parents=True)
    work = partial(_scan_file, columns=columns, folder=folder)
    processes = min(processes, len(files), sum(map(size_of, files)) // _BYTES_PER_PROCESS)
    if processes > 1 and "fork" in multiprocessing.get_all_start_methods():
        with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
            scanned = list(pool.map(work, files, range(len(files))))
    else:
        scanned = list(map(work, files, range(len(files))))
    kinds: dict[str, Kind] = {}
    first: tuple[Path, dict[str, Kind]] | None = None
    for index, (path, found) in enumerate(zip(files, scanned)):
        if found.kinds:
            first = first or (path, found.kinds)
            if set(found.kinds) != set(first[1]):
                raise InputError(different_columns(path, found.kinds, *first))
        _join(kinds, found.kinds, [Part(files[:index], columns, found)], Part([path], columns, found))
    rows = [count for found in scanned for count in found.rows]
    if not sum(rows):
        raise InputError(f"{files[0]} holds no examples{'' if len(files) == 1 else ', nor do the files after it'}.")
    return Found(rows, kinds)


def _scan_file(path: Path, index: int, columns: Columns, folder: Path) -> Found:
    if has_types(path):
        schema, count = read_schema(path, columns)
        return Found([count], {field.name: Kind(field.type) for field in schema})
    kinds: dict[str, Kind] = {}
    names: dict[str, None] = {}
    count = without_fields = 0
    writer = _RowsWriter(folder, index)
    try:
        for rows in read(path, columns):
            names |= dict.fromkeys(rows.names)
            _join(kinds, _kinds(path, rows.columns, kinds), [], Part([path], columns, Found([], {})))
            types = {name: pa.string() if _has_cells(path) else kind.type for name, kind in kinds.items()}
            if types and without_fields:
                writer.write({}, types, path, range(without_fields))
            without_fields = 0 if types else without_fields + len(rows.places)
            if types:
                writer.write(rows.columns, types, path, rows.places)
            count += len(rows.places)
    finally:
        writer.close()
    if count:
        chosen(path, list(names), columns.of(path).names)
    if without_fields:
        raise InputError(f"{path}: none of its {count} examples has a field.")
    return Found([count], kinds)


class _RowsWriter:
    """Writes the rows of a file; when the types of its columns change, it starts another file."""

    def __init__(self, folder: Path, index: int):
        self._folder, self._index, self._number = folder, index, 0
        self._types: dict[str, pa.DataType] = {}
        self._stream: Any = None

    def write(
        self, arrays: Mapping[str, pa.Array], types: dict[str, pa.DataType], path: Path, places: Sequence[int]
    ) -> None:
        if types != self._types:
            self.close()
            self._stream = pa.ipc.new_stream(
                str(self._folder / f"{self._index}-{self._number}.arrow"), pa.schema(types)
            )
            self._types, self._number = types, self._number + 1
        if len(places):
            fitted = [
                cast(path, places, name, arrays[name], type_) if name in arrays else pa.nulls(len(places), type_)
                for name, type_ in types.items()
            ]
            batch = pa.record_batch(fitted, schema=pa.schema(types))
            batch.validate()
            self._stream.write_batch(batch)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _has_cells(path: Path) -> bool:
    return format_of(path) in ("CSV", "TSV")


def _kinds(path: Path, arrays: Mapping[str, pa.Array], known: Mapping[str, Kind]) -> dict[str, Kind]:
    if not _has_cells(path):
        return {name: Kind(array.type) for name, array in arrays.items()}
    return {name: Kind(cells=of_cells(array, known.get(name, Kind()).cells)) for name, array in arrays.items()}


# One type


def common_types(parts: Sequence[Part]) -> dict[str, pa.DataType]:
    """Determine the one type of each column of all parts.

    Raises:
        InputError: A column has none; the message names two values of different kinds and their places.
    """
    kinds: dict[str, Kind] = {}
    for index, part in enumerate(parts):
        _check_use(part)
        _join(kinds, part.found.kinds, parts[:index], part)
    text = {name for part in parts for name in (*part.columns.text, part.columns.ids)}
    return {name: pa.string() if name in text else _known(kind) for name, kind in kinds.items()}


def types_to_predict(part: Part, types: Mapping[str, pa.DataType], label: str | None) -> dict[str, pa.DataType]:
    """Determine the types of the data to predict: those of the other parts, without labels of another kind.

    Raises:
        InputError: A value in another column does not have the type of the other parts.
    """
    own = common_types([part])
    for name, type_ in list(own.items()):
        expected = types.get(name, type_)
        if type_ == expected or pa.types.is_null(expected):
            continue
        if _holds(expected, part.found.kinds[name]):
            own[name] = expected
        elif name == label:
            del own[name]
        else:
            wrong = _find(part, name, lambda kind, expected=expected: not _holds(expected, kind))  # type: ignore[misc]
            found = (
                f"{wrong.place}: '{name}' is {what(wrong.value)}"
                if wrong
                else f"{part.files[0]}: '{name}' holds {words(type_)}"
            )
            raise InputError(f"{found}, but the other parts hold {words(expected)} in it.")
    return own


def _holds(type_: pa.DataType, kind: Kind) -> bool:
    joined = Kind(type_).join(kind)
    return joined is not None and joined.resolve() == type_


def _known(kind: Kind) -> pa.DataType:
    type_ = kind.resolve()
    assert type_ is not None, "join gives kinds that have one"
    return type_


def _check_use(part: Part) -> None:
    """Check that a part has the columns that are needed, and that their values suit their use."""
    uses: list[tuple[str, Callable[[Kind], bool], str]] = [
        (name, lambda kind: bool(kind.cells) or _is_any(kind.type, pa.types.is_string), "it must hold text")
        for name in part.columns.text
    ]
    if part.columns.lengths is not None:
        says = "length_column must hold integers"
        uses.append((part.columns.lengths, lambda kind: _is_any(_known(kind), pa.types.is_integer), says))
    for name in dict.fromkeys((*part.columns.needed, *part.columns.text)):
        chosen(part.files[0], list(part.found.kinds), [name])
    for name, is_right, says in uses:
        kind = part.found.kinds[name]
        if not is_right(kind):
            wrong = _find(part, name, lambda kind, is_right=is_right: not is_right(kind))  # type: ignore[misc]
            found = f"is {what(wrong.value)}" if wrong else f"holds {words(_known(kind))}"
            raise InputError(f"{wrong.place if wrong else part.files[0]}: '{name}' {found}; {says}.")


def _is_any(type_: pa.DataType, is_kind: Callable[[pa.DataType], bool]) -> bool:
    return is_kind(type_) or pa.types.is_null(type_)


def _join(kinds: dict[str, Kind], new: Mapping[str, Kind], earlier: Sequence[Part], part: Part) -> None:
    """Add the kinds of a part to those of earlier ones; an error names a value of each."""
    for name, kind in new.items():
        known = kinds.get(name, Kind())
        joined = known.join(kind)
        if joined is None:
            raise InputError(_two_kinds(name, known, kind, earlier, part))
        kinds[name] = joined


def _two_kinds(name: str, known: Kind, kind: Kind, earlier: Sequence[Part], part: Part) -> str:
    wrong = _find(part, name, lambda kind: known.join(kind) is None)
    own = wrong.kind if wrong else kind
    found = (_find(other, name, lambda kind: own.join(kind) is None) for other in (*earlier, part))
    other = next(filter(None, found), None)
    return clash(
        f"{wrong.place}: '{name}' is {what(wrong.value)}"
        if wrong
        else f"{part.files[0]}: '{name}' holds {words(_known(kind))}",
        f"{what(other.value)} in {other.place}" if other else f"{words(_known(known))} in {earlier[0].files[0]}",
        part.columns.unused(name),
    )


@dataclass(frozen=True)
class _Value:
    """A value of a column, its place, and its own kind."""

    value: Any
    place: str
    kind: Kind


def _find(part: Part, name: str, is_wrong: Callable[[Kind], bool]) -> _Value | None:
    """Find the first value of a column whose own kind is wrong, by reading the files again."""
    for path in part.files:
        for rows in read(path, replace(part.columns, names=(name,))):
            array = rows.columns.get(name)
            if array is None or not is_wrong(_kinds(path, {name: array}, {})[name]):
                continue
            for index, place in enumerate(rows.places):
                value = array[index].as_py()
                if value is None:
                    continue
                one = array.slice(index, 1)
                if format_of(path) == "JSON lines":  # there a value has a type of its own
                    value = int(value) if isinstance(value, float) and value.is_integer() else value
                    one = pa.array([value])
                kind = _kinds(path, {name: one}, {})[name]
                if is_wrong(kind):
                    return _Value(value, at(path, place), kind)
    return None


def different_columns(path: Path, columns: Iterable[str], other: Path, other_columns: Iterable[str]) -> str:
    """Write the sentence for two files whose columns differ."""
    more, less = sorted(set(columns) - set(other_columns)), sorted(set(other_columns) - set(columns))
    found = [f"has '{more[0]}'"] if more else []
    found += [f"lacks '{less[0]}'"] if less else []
    return f"{path} {' and '.join(found)}, unlike {other}; list the columns to read in columns."


# Fitting


def fit(part: Part, types: Mapping[str, pa.DataType], rows: Path, folder: Path) -> list[Path]:
    """Make Arrow files with the rows of a part, in their order and with the given types.

    Args:
        part: The part.
        types: The types of the columns to keep.
        rows: The folder that ``scan`` wrote to; a file there that has these types is used as it is.
        folder: Where other files are written.

    Raises:
        InputError: A column's type cannot represent one of its values exactly.
    """
    schema, paths = pa.schema(dict(types)), []
    for index, path in enumerate(part.files):
        if has_types(path):
            batches = (pa.record_batch(one.columns) for one in read(path, part.columns))
            paths.append(_write(folder / f"{index}.arrow", schema, path, part.columns, batches))
            continue
        for source in sorted(rows.glob(f"{index}-*.arrow"), key=lambda source: int(source.stem.split("-")[1])):
            with pa.memory_map(str(source)) as file, pa.ipc.open_stream(file) as stream:
                if stream.schema == schema:
                    paths.append(source)
                else:
                    paths.append(_write(folder / source.name, schema, path, part.columns, stream))
    return paths


def _write(target: Path, schema: pa.Schema, path: Path, columns: Columns, batches: Iterable[pa.RecordBatch]) -> Path:
    with pa.ipc.new_stream(str(target), schema) as out:
        for batch in batches:
            arrays = [
                _fitted(batch.column(field.name), field, path, columns)
                if field.name in batch.schema.names
                else pa.nulls(len(batch), field.type)
                for field in schema
            ]
            fitted = pa.record_batch(arrays, schema=schema)
            fitted.validate()
            out.write_batch(fitted)
    return target


def _fitted(array: pa.Array, field: pa.Field, path: Path, columns: Columns) -> pa.Array:
    try:
        return convert(array, field.type)
    except pa.ArrowInvalid:
        for rows in read(path, replace(columns, names=(field.name,))):  # to find the place
            if field.name in rows.columns:
                cast(path, rows.places, field.name, rows.columns[field.name], field.type)
        raise


def require_values(table: Any, column: str, part: Part) -> None:
    """Check that every example of a part has a value in a column of its table.

    Raises:
        InputError: An example has none; the message names its place.
    """
    values = table.data.column(column)
    if values.null_count:
        first = next(index for index, value in enumerate(values.is_null()) if value.as_py())
        others = f" ({values.null_count - 1} more have none)" if values.null_count > 1 else ""
        raise InputError(
            f"{place_of(part.files, first, column, part.columns)}: '{column}' has no value{others}; every example "
            "needs one."
        )


def place_of(files: Sequence[Path], row: int, column: str, columns: Columns) -> str:
    """Name the place of an example in the files of a part, which all have ``column``, one of ``columns``."""
    for path in files:
        for rows in read(path, Columns((column,), own=columns.own)):
            if row < len(rows.places):
                return at(path, rows.places[row])
            row -= len(rows.places)
    raise IndexError(row)


def words_for(path: Path, column: str, columns: Columns) -> str:
    """Say in words what a column holds in one file alone, such as "integers"; it is one of ``columns``."""
    kinds: dict[str, Kind] = {}
    part = Part([path], columns, Found([], {}))
    for rows in read(path, Columns((column,), own=columns.own)):
        _join(kinds, _kinds(path, rows.columns, kinds), [], part)
    return words(_known(kinds.get(column, Kind())))
