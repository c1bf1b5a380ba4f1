"""The type of a column: the one Arrow type that holds all of its values, if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

from gradual.data.arrow import pa, pc

_INTEGER = "^(0|-?[1-9][0-9]*)$"
_EXACT_INTEGER = "^(0|-?[1-9][0-9]{0,14})$"  # a float holds it exactly
_FRACTION = r"^(-0|-?(0|[1-9][0-9]*)(\.[0-9]+([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+))$"
_FINER = {"s": 0, "ms": 1, "us": 2, "ns": 3}


class Cells(IntFlag):
    """What the cells of a CSV or TSV column contain, which have no type: numbers as in JSON, or text."""

    INTEGER = 1
    LARGE = 2  # an integer of 64 bits that a float may not hold exactly
    FRACTION = 4
    TEXT = 8


_NULL, _NONE = pa.null(), Cells(0)


@dataclass(frozen=True)
class Kind:
    """What is known about a column, from values that have a type (JSON lines, Parquet) and from cells that have none.

    Attributes:
        type: The one type that holds all values that have a type; null if there are none.
        cells: What the cells of CSV and TSV contain.
    """

    type: pa.DataType = _NULL
    cells: Cells = _NONE

    def join(self, other: Kind) -> Kind | None:
        """Combine two kinds; None if no type holds the values of both."""
        type_ = merge(self.type, other.type)
        joined = None if type_ is None else Kind(type_, self.cells | other.cells)
        return None if joined is None or joined.resolve() is None else joined

    def resolve(self) -> pa.DataType | None:
        """Determine the type as which all values are read; None if there is none."""
        cells, type_ = self.cells, self.type
        if not cells or pa.types.is_string(type_):
            return type_
        if pa.types.is_null(type_):
            if cells & Cells.TEXT or (cells & Cells.LARGE and cells & Cells.FRACTION):
                return pa.string()
            return pa.float64() if cells & Cells.FRACTION else pa.int64()
        if cells & Cells.TEXT or not _is_number(type_):
            return None
        if cells & Cells.FRACTION or pa.types.is_floating(type_):
            return None if cells & Cells.LARGE else pa.float64()
        return merge(type_, pa.int64())


def of_cells(values: pa.Array, known: Cells = _NONE) -> Cells:
    """Classify cells, given what is ``known`` from earlier ones; text needs no further look."""
    if known & Cells.TEXT:
        return known
    values = values.drop_null()
    if not len(values):
        return known
    integer = _match(values, _INTEGER)
    fraction = values.filter(pc.invert(integer))
    if len(fraction):
        if not pc.all(_match(fraction, _FRACTION)).as_py():
            return Cells.TEXT
        if not pc.all(pc.is_finite(fraction.cast(pa.float64()))).as_py():
            return Cells.TEXT
        known |= Cells.FRACTION
    integers = values.filter(integer)
    if not len(integers):
        return known
    if pc.all(_match(integers, _EXACT_INTEGER)).as_py():
        return known | Cells.INTEGER
    try:
        integers.cast(pa.int64())
    except pa.ArrowInvalid:
        return Cells.TEXT
    return known | Cells.LARGE


def plain(type_: pa.DataType) -> pa.DataType | None:
    """Simplify the type of a Parquet column without changing its values; None for types that cannot be read."""
    types = pa.types
    if types.is_dictionary(type_):
        return plain(type_.value_type)
    if types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_):
        return pa.string()
    if types.is_binary(type_) or types.is_large_binary(type_) or types.is_binary_view(type_):
        return pa.binary()
    if types.is_fixed_size_binary(type_):
        return pa.binary()
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        inner = plain(type_.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_struct(type_):
        fields = {field.name: plain(field.type) for field in type_}
        return pa.struct(fields) if None not in fields.values() and len(fields) == type_.num_fields else None
    if types.is_decimal(type_):
        wide = pa.decimal256 if type_.bit_width == 256 else pa.decimal128
        return wide(type_.precision, type_.scale)
    if types.is_time(type_):
        return pa.time64("us")  # the resolution of Python's times
    if types.is_date(type_):
        return pa.date32()
    kept = types.is_null, types.is_boolean, _is_number, types.is_timestamp, types.is_duration
    return type_ if any(is_kind(type_) for is_kind in kept) else None


def merge(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Find the type that holds the values of two plain types; None if there is none."""
    types = pa.types
    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    both = (one, other)
    if all(map(types.is_integer, both)):
        return pa.uint64() if pa.uint64() in both else pa.int64()
    if all(map(_is_number, both)):
        return pa.float64()
    if all(map(types.is_list, both)):
        inner = merge(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if all(map(types.is_struct, both)):
        fields = {field.name: field.type for field in one}
        for field in other:
            fields[field.name] = merge(fields.get(field.name, pa.null()), field.type)
        return None if None in fields.values() else pa.struct(fields)
    if all(map(types.is_timestamp, both)) and one.tz == other.tz:
        return max(both, key=lambda type_: _FINER[type_.unit])
    return None


def convert(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Convert an array to another type.

    Raises:
        pa.ArrowInvalid: The type does not hold a value exactly.
    """
    if array.type == type_:
        return array
    if pa.types.is_null(type_):  # cells that are all empty
        return pa.nulls(len(array))
    if _has_null_inside(type_):  # pyarrow loses values when it casts nulls inside a list
        return pa.array(array.to_pylist(), type_)
    return (array.dictionary_decode() if pa.types.is_dictionary(array.type) else array).cast(type_)


def _has_null_inside(type_: pa.DataType) -> bool:
    inner = [type_.field(index).type for index in range(type_.num_fields)]
    return any(pa.types.is_null(field) or _has_null_inside(field) for field in inner)


def words(type_: pa.DataType) -> str:
    """Name a type in a message."""
    types = pa.types
    if types.is_list(type_):
        return f"lists of {words(type_.value_type)}"
    names = {
        "text": types.is_string,
        "true or false": types.is_boolean,
        "unsigned integers": types.is_unsigned_integer,
        "integers": types.is_integer,
        "numbers": types.is_floating,
        "objects": types.is_struct,
        "nothing": types.is_null,
    }
    return next((name for name, is_kind in names.items() if is_kind(type_)), f"{type_} values")


def what(value: Any) -> str:
    """Name a value in a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, int | float):
        return f"the number {value!r:.40}"
    if isinstance(value, list | dict):
        return f"{'the list' if isinstance(value, list) else 'the object'} {value!r:.40}"
    return f"{value!r:.60}"


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _match(values: pa.Array, pattern: str) -> pa.Array:
    return pc.match_substring_regex(values, pattern)
