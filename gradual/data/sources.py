"""The sources of a pool: several datasets with names, as one dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from gradual.checks import Accepted, check, found, number
from gradual.data.subsets import Joined, JoinedColumn, size_of
from gradual.errors import InputError

POOL = "out_of_domain"
"""The part of the data that is the pool; a named source of it is the part ``out_of_domain.NAME``."""
IN_DOMAIN = "in-domain"
"""What the in-domain data is called beside the sources; no source may have that name."""

_NAME = re.compile(r"\w([\w.+ -]*[\w.+-])?")
_WEIGHT = number(above=0)


@dataclass(frozen=True)
class Source:
    """A source of out-of-domain examples with a weight.

    Attributes:
        dataset: Its examples, a map-style dataset.
        weight: Its share of a stage's amount, relative to the weights of the other sources, as long as it has examples
            left; None to draw from all sources together, so that each example is equally likely. Either all sources of
            a pool have a weight or none has.
    """

    dataset: Any
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None:
            object.__setattr__(self, "weight", _WEIGHT.check("The weight of a source", self.weight))


class Pool(Joined):
    """Named sources, one after the other in the order of their names, however they are given.

    Args:
        sources: Each source by name, a map-style dataset or a ``Source``.

    Attributes:
        names: The names, sorted.
        weights: The weights in the order of the names; None if the sources have none.

    Raises:
        InputError: There is no source, a name cannot be used, or only some of the sources have a weight.
    """

    def __init__(self, sources: Mapping[str, Any]):
        check_names(sources)
        self.names = tuple(sorted(sources))
        given = [source if isinstance(source, Source) else Source(source) for _, source in sorted(sources.items())]
        self.weights = weights_of({name: source.weight for name, source in zip(self.names, given)})
        super().__init__([source.dataset for source in given])

    @property
    def sizes(self) -> dict[str, int]:
        """The number of examples of each source."""
        return {name: size_of(dataset) for name, dataset in zip(self.names, self.datasets)}

    @property
    def lengths(self) -> JoinedColumn | None:
        """Tokens per example; None if a source does not know them."""
        columns = [getattr(dataset, "lengths", None) for dataset in self.datasets]
        return None if any(column is None for column in columns) else JoinedColumn(columns)

    def source_of(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the source of each position, an index into ``names``."""
        return np.searchsorted(self.cumulative_sizes, positions, side="right")


def sources_of(dataset: Dataset[Any]) -> Iterator[tuple[str | None, int, Dataset[Any]]]:
    """Go through the sources of a dataset: name, position of the first example, and examples.

    A dataset that is no ``Pool`` is a single source without a name.
    """
    if not isinstance(dataset, Pool):
        yield None, 0, dataset
        return
    starts = [0, *dataset.cumulative_sizes]
    yield from zip(dataset.names, starts, dataset.datasets)


def part_of(name: str | None) -> str:
    """Return the part of the data that a source is; None for a pool without names."""
    return POOL if name is None else f"{POOL}.{name}"


def pool_of(parts: Mapping[str, Any], weights: tuple[float, ...] | None) -> Any:
    """Return the pool that datasets make up: a dataset, or named sources; None for none.

    Args:
        parts: The datasets by part, of which those of the pool are taken.
        weights: The weights of named sources in their order; None for none.
    """
    if POOL in parts:
        return parts[POOL]
    names = [part.partition(".")[2] for part in parts if is_pool(part)]
    given = weights or [None] * len(names)
    return {name: Source(parts[part_of(name)], weight) for name, weight in zip(names, given)} or None


def is_pool(part: str) -> bool:
    """Whether a part of the data is the pool or a source of it."""
    return part.partition(".")[0] == POOL


def is_training(part: str) -> bool:
    """Whether a part of the data is trained on."""
    return part == "in_domain" or is_pool(part)


def check_names(sources: Mapping[Any, Any]) -> None:
    """Check the names of sources.

    Raises:
        InputError: There is no source, or a name cannot be used in files, folders and the names of scores.
    """
    if not sources:
        raise InputError("The pool has no sources: name at least one, or leave the pool out.")
    for name in sources:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == IN_DOMAIN:
            raise InputError(
                f"A source is called {found(name)}: a name must be text of letters, digits, spaces and . _ + -, and "
                f"not '{IN_DOMAIN}'."
            )


def weights_of(weights: Mapping[str, float | None]) -> tuple[float, ...] | None:
    """Return the weights of sources in their order; None if none has a weight.

    Raises:
        InputError: Only some of the sources have one.
    """
    given = [weight for weight in weights.values() if weight is not None]
    if 0 < len(given) < len(weights):
        without = next(name for name, weight in weights.items() if weight is None)
        raise InputError(f"The source '{without}' has no weight, but others have: give all sources one, or none.")
    return tuple(given) or None


def files_of_sources(given: Any, files: Accepted) -> tuple[dict[str, Any], tuple[float, ...] | None]:
    """Read the setting of a pool whose sources are files.

    Args:
        given: For each source its files, or a mapping with ``files`` and ``weight``.
        files: What files may be.

    Returns:
        The files of each source in the order of the names, and the weights.

    Raises:
        InputError: A name, files or a weight cannot be used.
    """
    check_names(given)
    paths: dict[str, Any] = {}
    weights: dict[str, float | None] = {}
    for name, value in sorted(given.items()):
        where = part_of(name)
        setting = dict(value) if isinstance(value, Mapping) else {"files": value}
        if "files" not in setting or not {*setting} <= {"files", "weight"}:
            raise InputError(f"{where} is {found(value)}: it must be files, or a mapping with files and weight.")
        paths[name] = files.check(where, setting["files"])
        weights[name] = check(f"{where}.weight", setting.get("weight"), float | None, _WEIGHT)
    return paths, weights_of(weights)
