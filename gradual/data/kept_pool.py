"""The pool without the examples that are held out for validation or test, and what the amounts of a schedule are in it.

Amounts count examples or tokens. What they come to depends on the order of the pool only where a total is divided among
sources, or where tokens are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gradual.data.pool_order import PoolOrder
from gradual.data.sources import Pool, sources_of
from gradual.data.subsets import lengths_of, size_of, skipping, subset
from gradual.errors import InputError
from gradual.schedule import Schedule, remarks

AmountIn = Literal["examples", "tokens"]
"""What an amount of out-of-domain data counts."""

Indices = npt.NDArray[np.int64]

_TOKENS = "amount_in: tokens"
_TRIED_FIRST = 1024  # examples whose tokens are counted first; then twice as many


@dataclass(frozen=True)
class KeptPool:
    """A pool without the examples that are held out.

    Attributes:
        pool: The dataset of the pool; None for no pool.
        left_out: The sorted positions of the examples that are held out.
        amount_in: What the amounts of a schedule count.
    """

    pool: Any
    left_out: Indices
    amount_in: AmountIn

    @property
    def size(self) -> int:
        """The number of examples."""
        return 0 if self.pool is None else size_of(self.pool) - len(self.left_out)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources; empty for a pool without names."""
        return self.pool.names if isinstance(self.pool, Pool) else ()

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The weights of the sources; None if they have none."""
        return self.pool.weights if isinstance(self.pool, Pool) else None

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The number of examples of each source; a pool without names is one source, called ``""``."""
        return {name: size - self._held_out(start, size).size for name, start, size in self._sources()} or {"": 0}

    @cached_property
    def tokens(self) -> dict[str, int]:
        """The number of tokens of each source.

        Raises:
            InputError: The datasets do not know them.
        """
        found = {}
        for (name, start, size), (_, _, part) in zip(self._sources(), sources_of(self.pool) if self._sources() else ()):
            whole = int(lengths_of(part, _TOKENS).sum(dtype=np.int64))
            found[name] = whole - self.tokens_at(self._held_out(start, size))
        return found or {"": 0}

    def positions(self, kept: Indices) -> Indices:
        """Convert positions among the examples that are kept to positions in the dataset."""
        return skipping(self.left_out, kept)

    def tokens_at(self, positions: Indices) -> int:
        """Return the number of tokens of the examples at these positions of the dataset."""
        return int(self._lengths_at(positions).sum(dtype=np.int64))

    def amounts(self, schedule: Schedule) -> list[int | dict[str, int]]:
        """Return the amounts of a schedule as numbers of examples or tokens, in all or by source.

        Raises:
            InputError: The schedule does not fit the pool.
        """
        if self.names:
            return schedule.amounts_by_source(self._counted, self.amount_in)
        return [*schedule.amounts(sum(self._counted.values()), self.amount_in)]

    def remarks(self, schedule: Schedule) -> list[str]:
        """Return sentences on amounts of a schedule that may not be meant as they are written.

        Raises:
            InputError: The schedule does not fit the pool.
        """
        return remarks(schedule, self.amounts(schedule), self._counted, self.amount_in)

    def counts(self, schedule: Schedule, order: Callable[[], PoolOrder]) -> list[tuple[int, ...]]:
        """Return the number of examples of each source in each stage of a schedule.

        Args:
            schedule: The schedule.
            order: Returns the order in which the pool is kept; only called where the numbers depend on it.

        Raises:
            InputError: The schedule does not fit the pool, or a source has more examples in a later stage.
        """
        counts = [self._count(amount, order) for amount in self.amounts(schedule)]
        for number, (before, after) in enumerate(pairwise(counts), start=1):
            for name, fewer, more in zip(self.sizes, before, after):
                if more > fewer:
                    raise InputError(
                        f"Stage {number} of the schedule has {fewer} examples of '{name}', and stage {number + 1} has "
                        f"{more}: each stage's sample is part of the one before, so no source may have more."
                    )
        return counts

    def _count(self, amount: int | dict[str, int], order: Callable[[], PoolOrder]) -> tuple[int, ...]:
        if self.amount_in == "examples":
            if isinstance(amount, dict):
                return tuple(amount.values())
            if len(self.sizes) == 1 or amount in (0, self.size):
                return tuple(min(amount, size) for size in self.sizes.values())
            return tuple(order().counts(amount))
        if isinstance(amount, int):
            return tuple(order().counts(self._within(amount, order().first, self.size)))
        return tuple(
            self._within(tokens, lambda count, at=at: order().of_source(at, count), size)  # type: ignore[misc]
            for at, (tokens, size) in enumerate(zip(amount.values(), self.sizes.values()))
        )

    def _within(self, tokens: int, first: Callable[[int], Indices], size: int) -> int:
        """Return how many of the first examples have at most so many tokens."""
        count = min(_TRIED_FIRST, size)
        while True:
            ends = np.cumsum(self._lengths_at(self.positions(first(count))), dtype=np.int64)
            if count == size or ends[-1] > tokens:
                return int(np.searchsorted(ends, tokens, side="right"))
            count = min(2 * count, size)

    def _lengths_at(self, positions: Indices) -> npt.NDArray[np.integer]:
        return lengths_of(subset(self.pool, positions), _TOKENS)

    @property
    def _counted(self) -> dict[str, int]:
        """The size of each source, in what amounts count."""
        return self.sizes if self.amount_in == "examples" else self.tokens

    def _sources(self) -> list[tuple[str, int, int]]:
        """The name, first position and size of each source."""
        if self.pool is None:
            return []
        return [(name or "", start, size_of(part)) for name, start, part in sources_of(self.pool)]

    def _held_out(self, start: int, size: int) -> Indices:
        return self.left_out[slice(*np.searchsorted(self.left_out, (start, start + size)))]
