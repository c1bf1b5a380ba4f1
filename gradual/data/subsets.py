"""Map-style datasets and their columns joined, and parts of them by position."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import ConcatDataset, Dataset, Subset

from gradual.errors import InputError


class Joined(ConcatDataset[Any]):
    """Several datasets as one. Reads all examples of a batch at once from datasets that support it."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        examples: list[Any] = [None] * len(indices)
        part_of = np.searchsorted(self.cumulative_sizes, indices, side="right")
        for part, dataset in enumerate(self.datasets):
            places = np.flatnonzero(part_of == part).tolist()
            start = self.cumulative_sizes[part] - size_of(dataset)
            inside = [indices[place] - start for place in places]
            read = getattr(dataset, "__getitems__", None)
            found = read(inside) if read and inside else [dataset[index] for index in inside]
            for place, example in zip(places, found, strict=True):
                examples[place] = example
        return examples


class JoinedColumn:
    """A column of several datasets as one, such as their lengths; every operation needs memory for its result only.

    Args:
        columns: The column of each dataset, in the order of the datasets.
    """

    def __init__(self, columns: Sequence[Any]):
        self._columns = list(columns)
        self._ends = np.cumsum([len(column) for column in columns])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the entries at an array of indices."""
        part_of = np.searchsorted(self._ends, indices, side="right")
        starts = self._ends - [len(column) for column in self._columns]
        found = np.zeros(len(indices), dtype=np.int64)
        for part, column in enumerate(self._columns):
            places = np.flatnonzero(part_of == part)
            found[places] = entries_at(column, indices[places] - starts[part])
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.concatenate([np.asarray(column) for column in self._columns]).astype(dtype or np.int64)

    def sum(self) -> int:
        """Sum the entries."""
        return sum(int(np.sum(column) if not hasattr(column, "sum") else column.sum()) for column in self._columns)


def subset(dataset: Dataset[Any], indices: npt.NDArray[np.int64]) -> Subset[Any]:
    """Return the examples at these positions."""
    numbers = array("q")  # eight bytes each, but Python integers for the dataset
    numbers.frombytes(indices.view(np.uint8).data)
    return Subset(dataset, numbers)


def skipping(left_out: npt.NDArray[np.int64], kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Convert positions among the kept examples to positions in the dataset; ``left_out`` is sorted."""
    if not len(left_out):
        return kept
    return kept + np.searchsorted(left_out - np.arange(len(left_out)), kept, side="right")


def texts_of(ids: Iterable[Any]) -> Iterator[str]:
    """Yield ids as text: 3 and "3" are the same id, and entries of a tensor are compared by their values."""
    return map(str, ids.tolist() if hasattr(ids, "tolist") else ids)


def positions_of(ids: Iterable[Any], held_out: set[str]) -> npt.NDArray[np.int64]:
    """Return the positions of held-out ids, as text, among ``ids``."""
    if hasattr(ids, "isin"):
        texts = ids.astype(str) if hasattr(ids, "astype") else ids
        return np.flatnonzero(texts.isin(list(held_out)))
    return np.fromiter((position for position, id_ in enumerate(texts_of(ids)) if id_ in held_out), dtype=np.int64)


def entries_at(column: Any, indices: npt.NDArray[np.int64]) -> Any:
    """Return entries of a column, in one step if it is an array of some kind (NumPy, torch, pandas, Arrow)."""
    if hasattr(column, "iloc"):  # a Series, whose brackets take the labels of its index
        return column.iloc[indices]
    if hasattr(column, "to_pylist"):  # Arrow, whose brackets take one position
        return column.take(indices).to_numpy(zero_copy_only=False)
    return column[indices] if hasattr(column, "__array__") else [column[index] for index in indices.tolist()]


def size_of(dataset: Dataset[Any]) -> int:
    """Return the number of examples."""
    return len(dataset)  # type: ignore[arg-type]


def lengths_of(dataset: Dataset[Any], needed_for: str = "batch_tokens") -> npt.NDArray[np.integer]:
    """Return the number of tokens in each example.

    Args:
        dataset: The examples.
        needed_for: The setting that needs them, for the message.

    Raises:
        InputError: The dataset does not know them.
    """
    whole = dataset.dataset if isinstance(dataset, Subset) else dataset
    lengths = getattr(whole, "lengths", None)
    if lengths is None:
        raise InputError(f"{needed_for} needs the length of each example, but {type(whole).__name__} has no lengths.")
    return np.asarray(entries_at(lengths, np.asarray(dataset.indices)) if isinstance(dataset, Subset) else lengths)
