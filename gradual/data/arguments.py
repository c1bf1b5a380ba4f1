"""Checks of the arguments of data modules: datasets, files and batch sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from gradual.checks import Accepted, integer
from gradual.data.formats import FORMATS
from gradual.data.sources import Source

_OF_FILES = "files are read by gradual.FileDataModule"
_JOINED = "join several datasets into one, such as torch.utils.data.ConcatDataset([first, second])"

BATCHES = {
    "batch_size": integer(1),
    "eval_batch_size": integer(1),
    "batch_tokens": integer(1),
    "num_workers": integer(0),
}


def _wrong_dataset(value: Any) -> str | None:
    """Return None for a map-style dataset or a list of examples, and otherwise what to pass instead."""
    if isinstance(value, type):
        return f"make an instance: {value.__name__}(...)"
    if isinstance(value, DataLoader):
        return "pass the loader's dataset, since the data module makes the batches"
    if isinstance(value, str | bytes | os.PathLike) or _are_files(value):
        return _OF_FILES
    if isinstance(value, IterableDataset):
        return "a stage draws examples by index, which a stream does not support"
    if isinstance(value, dict) or (isinstance(value, list | tuple) and _is_dataset(next(iter(value), None))):
        return _JOINED
    if type(value).__name__ in ("DataFrame", "Series"):  # these are indexed by column, or by the labels of an index
        return "convert it to a list, with frame.to_dict('records') or series.tolist()"
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")) or getattr(value, "ndim", 1) == 0:
        return "it has no length or cannot be indexed"
    return None


def _is_dataset(value: Any) -> bool:
    """Whether an entry of a list is a dataset and not an example, which may be a list, a tensor or a mapping."""
    if isinstance(value, Dataset | DataLoader) or type(value).__name__ == "DataFrame":
        return True
    named = any(hasattr(value, name) for name in ("ids", "lengths", "column_names"))
    return named and hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping)


def _are_files(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_file, value))


def _is_file(value: Any) -> bool:
    if isinstance(value, str):
        return "\n" not in value and PurePath(value).suffix.lower() in FORMATS
    return isinstance(value, os.PathLike)


def _wrong_files(value: Any) -> str | None:
    given = value if isinstance(value, list | tuple) else [value]
    if all(isinstance(part, str | os.PathLike) for part in given):
        return None
    if isinstance(value, dict):
        return "only the pool, out_of_domain, has named sources"
    return "datasets are taken by gradual.MixedDomainDataModule" if hasattr(value, "__getitem__") else ""


def _wrong_pool(value: Any) -> str | None:
    """Return None for a dataset or a mapping of named sources, and otherwise what to pass instead."""
    if not isinstance(value, Mapping):
        return _wrong_dataset(value)
    wrong = (_wrong_dataset(source.dataset if isinstance(source, Source) else source) for source in value.values())
    return next(filter(None, wrong), None)


def _wrong_pool_files(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else _wrong_files(value)


def _wrong_path(value: Any) -> str | None:
    return None if isinstance(value, str | os.PathLike) else ""


DATASET = Accepted("a map-style dataset (with __len__ and __getitem__) or a list of examples", _wrong_dataset)
POOL_DATA = Accepted(f"{DATASET.words}, or a mapping of these by the names of sources", _wrong_pool)
DATASETS = dict.fromkeys(("in_domain", "val", "test", "predict"), DATASET) | {"out_of_domain": POOL_DATA}
FILES = Accepted("a file, a pattern or a list of these", _wrong_files)
POOL_FILES = Accepted(f"{FILES.words}, or a mapping of these by the names of sources", _wrong_pool_files)
PATH = Accepted("a path", _wrong_path)
