"""Examples that stay in their memory-mapped file until they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from gradual.data.collate import IGNORED_LABEL
from gradual.data.features import LENGTH
from gradual.data.relevance.tokens import Tokens
from gradual.errors import InputError

_ISIN_ROWS = 1 << 20
_TOKENS = ("input_ids", "pieces")  # columns of token ids


class FileDataset(Dataset[dict[str, Any]]):
    """The examples of a table, each read from the table's file when it is requested.

    Args:
        table: A ``datasets.Dataset``.
        id_column: Column of ids; None for none.
        length_column: Column of lengths; None for none.
        label_column: Column whose text becomes an index into ``label_names``; None for none.
        label_names: The labels.
    """

    def __init__(
        self,
        table: Any,
        id_column: str | None = None,
        length_column: str | None = None,
        label_column: str | None = None,
        label_names: Sequence[str] = (),
    ):
        self.table = table
        self._rows = table.remove_columns(LENGTH) if length_column == LENGTH else table
        self._id_column, self._length_column = id_column, length_column
        self._label_column = label_column if label_names and label_column in table.column_names else None
        self._labels = {name: index for index, name in enumerate(label_names)}

    @property
    def ids(self) -> ArrowColumn | None:
        """The ids of the examples; None where they have none."""
        return None if self._id_column is None else ArrowColumn(self.table, self._id_column)

    @property
    def lengths(self) -> ArrowColumn | None:
        """Tokens per example; None where unknown."""
        return None if self._length_column is None else ArrowColumn(self.table, self._length_column)

    def token_ids(self, start: int, stop: int) -> Tokens:
        """Return the tokens of consecutive examples.

        Raises:
            InputError: The files are not tokenized.
        """
        column = next((name for name in _TOKENS if name in self.table.column_names), None)
        if column is None:
            raise InputError("An order by relevance needs text: set text_column.")
        lists = self.table.data.column(column).slice(start, stop - start).combine_chunks()
        lengths = _pyarrow().compute.list_value_length(lists).to_numpy(zero_copy_only=False)
        return Tokens(lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64), lengths.astype(np.int64))

    @property
    def token_key(self) -> str:
        """What identifies the tokens: the key of the table in the cache, which has the content of its files."""
        return Path(self.table.cache_files[0]["filename"]).parent.name

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._labelled(self._rows[int(index)])

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self._labelled(example) for example in self._rows.__getitems__(indices)]

    def _labelled(self, example: dict[str, Any]) -> dict[str, Any]:
        if self._label_column is not None:
            # the data of predict may have other labels, or none
            example[self._label_column] = self._labels.get(example[self._label_column], IGNORED_LABEL)
        return example


class ArrowColumn:
    """A column that stays in its file: every operation needs memory for its result only."""

    def __init__(self, table: Any, name: str):
        self._values = table.data.column(name)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._values.chunks:
            yield from chunk.to_pylist()

    def __getitem__(self, index: Any) -> Any:
        """Return the entry at an index, or those at an array of indices as an array."""
        if isinstance(index, np.ndarray):
            return self._values.take(_pyarrow().array(index)).to_numpy(zero_copy_only=False)
        return self._values[int(index)].as_py()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self._values.to_numpy(zero_copy_only=False), dtype)

    def sum(self) -> Any:
        """Sum the entries."""
        return _pyarrow().compute.sum(self._values).as_py()

    def isin(self, values: Sequence[Any]) -> npt.NDArray[np.bool_]:
        """Whether each entry is one of ``values``; a number equals the text of its decimal digits."""
        pa = _pyarrow()
        wanted = pa.array([str(value) for value in values], pa.string())
        found = np.zeros(len(self), dtype=np.bool_)
        for start in range(0, len(self), _ISIN_ROWS):
            part = self._values.slice(start, _ISIN_ROWS).cast(pa.string())
            found[start : start + _ISIN_ROWS] = pa.compute.is_in(part, value_set=wanted).to_numpy()
        return found


def _pyarrow() -> Any:  # it comes with gradual[files] only
    import pyarrow
    import pyarrow.compute

    return pyarrow
