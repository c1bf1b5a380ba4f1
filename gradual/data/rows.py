"""Rows of example files, which all formats are read as, and what reading any file takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gradual.data.arrow import pa
from gradual.data.column_types import convert, plain, words
from gradual.data.formats import Columns, at
from gradual.errors import InputError

ROWS = 1000
"""The number of rows that are read at once."""


@dataclass(frozen=True)
class Rows:
    """Consecutive examples of a file.

    Attributes:
        columns: The values of each column, one per example; text for CSV and TSV, lists of text for CoNLL. For JSON
            lines, the columns are those that these examples have.
        places: The place of each example: its (first) line, or its row counted from 1 where files have no lines.
        names: The names of all columns that these examples have, read or not, as the file has them.
    """

    columns: dict[str, pa.Array]
    places: Sequence[int]
    names: Sequence[str]


def chosen(path: Path, names: Sequence[str], columns: Collection[str] | None) -> list[str]:
    """Choose which of a file's columns to read: those in ``columns``, or all where that is None.

    Raises:
        InputError: The file lacks a column, or has it twice.
    """
    read = list(names) if columns is None else list(columns)
    for name in read:
        if name not in names:
            raise InputError(f"{path} has no column '{name}'; its columns are {listed(names)}.")
        if names.count(name) > 1:
            raise InputError(f"{path} has {names.count(name)} columns named '{name}'; a name must be unique.")
    return read


def plain_schema(path: Path, schema: pa.Schema, columns: Columns) -> pa.Schema:
    """Choose which columns of a schema to read, with plain types.

    Raises:
        InputError: It lacks a column of ``columns``, or has one of an unsupported type.
    """
    fields = {}
    for name in chosen(path, schema.names, columns.names):
        type_ = schema.field(name).type
        fields[name] = plain(type_)
        if fields[name] is None:
            raise InputError(
                f"{path}: the column '{name}' has the Arrow type {type_}, which cannot be read; "
                "leave it out of columns."
            )
        if name == columns.ids and not pa.types.is_null(fields[name]):
            if not (pa.types.is_integer(fields[name]) or pa.types.is_string(fields[name])):
                raise InputError(f"{path}: '{name}' holds {words(fields[name])}; an id must be text or an integer.")
            fields[name] = pa.string()
    return pa.schema(fields)


def cast(path: Path, places: Sequence[int], name: str, array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Convert an array to another type, which must hold its values exactly.

    Raises:
        InputError: It does not; the message names the first value that it cannot hold.
    """
    try:
        return convert(array, type_)
    except pa.ArrowInvalid:
        for index, place in enumerate(places):
            try:
                convert(array.slice(index, 1), type_)
            except pa.ArrowInvalid:
                one = array.slice(index, 1)
                with suppress(pa.ArrowNotImplementedError):
                    one = one.cast(pa.string())  # for all digits of a time
                value = f"{one[0].as_py()!s:.60}"
                raise InputError(
                    f"{at(path, place)}: '{name}' is {value}, which a column of {words(type_)} cannot hold exactly."
                ) from None
        raise


# Bytes


@contextmanager
def open_text(path: Path, newline: str = "") -> Iterator[TextIO]:
    """Open a UTF-8 text file."""
    check_bytes(path)
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        raise InputError(_not_utf8(path, error)) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.") from None


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as found:
                return f"{path}:{number}: not UTF-8 (byte 0x{line[found.start]:02x}); convert the file."
    return f"{path}: not UTF-8 ({error.reason}); convert the file."


def check_bytes(path: Path) -> None:
    """Check that a file can be read and is not empty.

    Raises:
        InputError: It is not.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.") from None
    if not size:
        raise InputError(f"{path} is empty.")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def listed(names: Sequence[str]) -> str:
    """List names in a message, the first ten."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
