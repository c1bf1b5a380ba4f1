"""Folders that ``save_to_disk`` of Hugging Face ``datasets`` wrote, one split each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradual.data.arrow import pa, pc
from gradual.data.formats import Columns, at
from gradual.data.rows import ROWS, Rows, cast, first_line, plain_schema
from gradual.errors import InputError

_UNLABELLED = -1  # what datasets writes where a label is missing


def saved_names(path: Path) -> list[str]:
    """Read the names of a folder's columns.

    Raises:
        InputError: The folder cannot be read.
    """
    return list(_load(path).column_names)


def saved_schema(path: Path, columns: Columns) -> tuple[pa.Schema, int]:
    """Read which columns of a folder are used, with plain types, and its number of examples, but no data.

    Labels that have names (``ClassLabel``) are text, also in lists.

    Raises:
        InputError: The folder cannot be read, lacks a column of ``columns``, or has one of an unsupported type.
    """
    dataset = _load(path)
    return plain_schema(path, _named(dataset.data.schema, _names(dataset)), columns), len(dataset)


def read_saved(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read the examples of a folder.

    Raises:
        InputError: As for ``saved_schema``, or a label has no name.
    """
    schema, _ = saved_schema(path, columns)
    dataset = _load(path)
    names = _names(dataset)
    row = 1
    for table in dataset.select_columns(schema.names).with_format("arrow").iter(ROWS):
        places = range(row, row + len(table))
        arrays = {}
        for field in schema:
            array = table.column(field.name).combine_chunks()
            if field.name in names:
                array = _labels(path, places, field.name, array, names[field.name])
            arrays[field.name] = cast(path, places, field.name, array, field.type)
        yield Rows(arrays, places, schema.names)
        row += len(table)


def _load(path: Path) -> Any:
    from datasets import Dataset

    try:
        return Dataset.load_from_disk(str(path))
    except Exception as error:  # a damaged file may raise anything in the libraries that read it
        raise InputError(f"{path} cannot be read as a folder of datasets: {first_line(error)}.") from None


def _names(dataset: Any) -> dict[str, list[str]]:
    """Return the names of labels of the columns that hold such labels, or lists of them."""
    found = {}
    for column, feature in dataset.features.items():
        while getattr(feature, "names", None) is None and getattr(feature, "feature", None) is not None:
            feature = feature.feature
        if getattr(feature, "names", None) is not None:
            found[column] = list(feature.names)
    return found


def _named(schema: pa.Schema, names: Mapping[str, Sequence[str]]) -> pa.Schema:
    return pa.schema({field.name: _text(field.type) if field.name in names else field.type for field in schema})


def _text(type_: pa.DataType) -> pa.DataType:
    return pa.list_(_text(type_.value_type)) if _is_list(type_) else pa.string()


def _labels(path: Path, places: Sequence[int], column: str, array: pa.Array, names: Sequence[str]) -> pa.Array:
    """Replace labels, or those in lists, by their names."""
    if not _is_list(array.type):
        known = pc.is_in(array, pa.array([*range(_UNLABELLED, len(names))], array.type), skip_nulls=False)
        wrong = pc.and_kleene(pc.is_valid(array), pc.invert(known))
        if pc.any(wrong).as_py():
            index = pc.index(wrong, True).as_py()
            raise InputError(
                f"{at(path, places[index])}: '{column}' has the label {array[index]}, but there are names for 0 to "
                f"{len(names) - 1}."
            )
        missing = pc.equal(array, pa.scalar(_UNLABELLED, array.type))
        indices = pc.if_else(missing, pa.scalar(None, array.type), array)
        return pa.array(names, pa.string()).take(indices)
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    inside = np.repeat(np.asarray(places), sizes).tolist()
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    empty = np.append(array.is_null().to_numpy(zero_copy_only=False), False)
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32(), mask=empty), _labels(path, inside, column, array.flatten(), names)
    )


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))
