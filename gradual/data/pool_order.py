"""The order of a pool with sources: each source has its own, and one for all of them says which source comes next.

A stage with so many examples of each source keeps that many of the first of each. A stage with a total keeps the first
of the order for all, which takes the examples of a source in the source's own order. So a stage with a total and one
with an amount for each source are nested as soon as no source has more in the later one.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradual.data.order import derive_seed, draw

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PoolOrder(ABC):
    """The order in which a pool is kept.

    Attributes:
        sizes: The number of examples of each source, by name; a pool without names is one source, called ``""``.
        weights: The weights of the sources; None if an example's place does not depend on its source.
    """

    sizes: Mapping[str, int]
    weights: Sequence[float] | None

    @property
    def size(self) -> int:
        """The number of examples of all sources."""
        return sum(self.sizes.values())

    def counts(self, total: int) -> list[int]:
        """Count the examples of each source among the first ``total``."""
        if len(self.sizes) == 1 or total == self.size:
            return [min(total, size) for size in self.sizes.values()]
        if self.weights is not None:
            return apportion(total, list(self.sizes.values()), self.weights)
        return np.bincount(self._sources(total), minlength=len(self.sizes)).tolist()

    def of_each(self, counts: Sequence[int]) -> Indices:
        """Return the first examples of each source, one source after the other.

        Args:
            counts: How many of each.

        Returns:
            Their positions in the pool, which has the sources one after the other.
        """
        return np.concatenate([self.of_source(index, count) for index, count in enumerate(counts)])

    def of_source(self, index: int, count: int) -> Indices:
        """Return the positions in the pool of the first examples of a source, by its place among the sources."""
        return self._start(index) + self._own(index, count)

    def first(self, total: int) -> Indices:
        """Return the positions of the first ``total`` examples, in order."""
        counts = self.counts(total)
        if len(counts) == 1:
            return self._own(0, total)
        sources = self._sources(total) if self.weights is None else by_turns(counts, self.weights)
        positions = np.empty(total, dtype=np.int64)
        for index, count in enumerate(counts):
            positions[sources == index] = self.of_source(index, count)
        return positions

    def _start(self, index: int) -> int:
        return sum(list(self.sizes.values())[:index])

    @abstractmethod
    def _own(self, index: int, count: int) -> Indices:
        """Return the first examples of a source, as positions in it."""

    @abstractmethod
    def _sources(self, total: int) -> Indices:
        """Return the sources of the first ``total`` examples where the sources have no weights."""


@dataclass(frozen=True)
class UniformOrder(PoolOrder):
    """The paper's order: every example is equally likely to come next.

    The order of a source depends on its name and size alone, so that other sources can be added or left out.

    Attributes:
        seed: Determines the order.
    """

    seed: int

    def _own(self, index: int, count: int) -> Indices:
        name, size = list(self.sizes.items())[index]
        return draw(size, count, derive_seed(self.seed, "source", name) if name else self.seed)

    def _sources(self, total: int) -> Indices:
        ends = np.cumsum(list(self.sizes.values()))
        return np.searchsorted(ends, draw(self.size, total, derive_seed(self.seed, "sources")), side="right")


def apportion(total: int, sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Divide a total by weights, by the method of Sainte-Laguë, which never takes from a part when the total grows.

    The next example goes to the part with the highest ``weight / (2 count + 1)`` that has examples left, and to the
    first of equals.

    Args:
        total: What is divided, at most the sum of the sizes.
        sizes: What each part holds.
        weights: The weights of the parts, positive.
    """
    counts = _below(total, sizes, weights)
    heap = [((2 * counts[k] + 1) / weights[k], k) for k in range(len(sizes)) if counts[k] < sizes[k]]
    heapq.heapify(heap)
    for _ in range(total - sum(counts)):
        _, k = heap[0]
        counts[k] += 1
        if counts[k] < sizes[k]:
            heapq.heapreplace(heap, ((2 * counts[k] + 1) / weights[k], k))
        else:
            heapq.heappop(heap)
    return counts


def by_turns(counts: Sequence[int], weights: Sequence[float]) -> Indices:
    """Return the part that each example goes to when ``apportion`` has given the parts so many.

    Args:
        counts: The examples of each part.
        weights: The weights of the parts.
    """
    parts = np.repeat(np.arange(len(counts)), counts)
    turns = np.concatenate([(2 * np.arange(count) + 1) / weight for count, weight in zip(counts, weights)])
    return parts[np.lexsort((parts, turns))]


def _below(total: int, sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return counts close to the final ones, but none of them above: the shares, rounded down generously."""
    shares, left = [0.0] * len(sizes), float(total)
    open_ = sorted(range(len(sizes)), key=lambda k: sizes[k] / weights[k])  # the first to run out of examples first
    weight_left = sum(weights)
    for k in open_:
        shares[k] = min(sizes[k], left * weights[k] / weight_left) if weight_left > 0 else 0.0
        left, weight_left = left - shares[k], weight_left - weights[k]
    slack = 2 + len(sizes) + round(total * 1e-9)  # rounding moves fewer examples, and so do inexact sums
    return [max(0, int(share) - slack) for share in shares]
