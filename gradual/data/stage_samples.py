"""What each stage draws: the pool in its order, without held-out examples, and the prefix of it that is a sample."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningDataModule
from torch.utils.data import Dataset

from gradual.checks import check, found
from gradual.data.domains import Domains, held_out, ids_at, no_examples
from gradual.data.kept_pool import AmountIn, KeptPool
from gradual.data.order import derive_seed, draw
from gradual.data.pool_order import PoolOrder, UniformOrder
from gradual.data.relevance.of_data import pool_scores
from gradual.data.relevance.ranking import ranked
from gradual.data.relevance.settings import Order
from gradual.data.sources import sources_of
from gradual.data.subsets import size_of, skipping
from gradual.errors import InputError
from gradual.schedule import Schedule


class StagedDataModule(LightningDataModule):
    """A data module that knows which examples each stage uses; a subclass loads them and makes batches.

    The arguments are those of ``MixedDomainDataModule``.

    Attributes:
        reads_test: Whether there is test data.
    """

    reads_test = True

    def __init__(
        self,
        schedule: Schedule | Iterable[Any],
        seed: int,
        amount_in: AmountIn,
        order: Order | dict[str, Any] | str,
        id_of: Callable[[Any], str] | None,
        text_of: Callable[[Any], str] | None,
    ):
        super().__init__()
        self.amount_in: AmountIn = check("amount_in", amount_in, AmountIn)
        self.id_of, self.text_of = id_of, text_of
        self.order = Order.of(order)
        self._seed = seed
        self._forget()
        self.schedule = schedule

    def _forget(self) -> None:
        """Let the datasets be loaded again."""
        self._domains: Domains | None = None
        self._counts: list[tuple[int, ...]] | None = None
        self._kept_pool: KeptPool | None = None
        self._pool_order: tuple[int, PoolOrder] | None = None
        self._scores: npt.NDArray[np.floating] | None = None
        self._left_out = no_examples()

    @abstractmethod
    def load(self) -> Domains:
        """Return the datasets."""

    def cache_folder(self) -> Path:
        """Return the folder in which the relevance of the pool is kept."""
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradual"

    def scoring_tokenizer(self) -> Any:
        """Return what decodes the tokens of the datasets, if they have any; None by default."""
        return None

    def column_of_pool(self, part: str, dataset: Dataset[Any], column: str) -> Any:
        """Return a column of the pool that it can be ordered by: a number for each example; None where there is none.

        Args:
            part: The pool, or a source of it.
            dataset: Its examples.
            column: The name of the column, by default that of an attribute of the dataset.
        """
        return getattr(dataset, column, None)

    @property
    def seed(self) -> int:
        """Determines the samples and the order of batches."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed, self._counts = seed, None

    @property
    def domains(self) -> Domains:
        """The datasets, loaded on first use."""
        if self._domains is None:
            self._load_once()
        assert self._domains is not None
        return self._domains

    @property
    def schedule(self) -> Schedule:
        """The stages. Assigning a list or a ``Schedule`` checks it against the pool and returns to stage 0."""
        return self._schedule

    @schedule.setter
    def schedule(self, stages: Schedule | Iterable[Any]) -> None:
        schedule = stages if isinstance(stages, Schedule) else Schedule(stages)
        self._counts = None if self._domains is None else self._checked(schedule)
        self._schedule, self._stage = schedule, 0

    @property
    def stage(self) -> int:
        """The current stage, counted from 0."""
        return self._stage

    def set_stage(self, k: int) -> None:
        """Make stage ``k`` the current stage, for the next call of ``train_dataloader``.

        May be called before or after ``setup``, any number of times and in any order: the sample depends only on the
        seed and the amount.

        Raises:
            InputError: The schedule has no stage ``k``.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < len(self._schedule):
            raise InputError(f"There is no stage {k!r}: the schedule has {len(self._schedule)} stages, counted from 0.")
        self._stage = k

    @property
    def amounts(self) -> list[int]:
        """The number of out-of-domain examples in each stage."""
        return [sum(counts) for counts in self._counts_of_stages()]

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the pool's sources; empty for a pool without names."""
        return self._kept.names

    @property
    def composition(self) -> dict[str, int]:
        """The number of out-of-domain examples of each named source in the current stage."""
        return dict(zip(self.sources, self._counts_of_stages()[self._stage]))

    def amounts_of(self, schedule: Schedule) -> list[int]:
        """The amounts of a schedule's stages as numbers, in examples or tokens as ``amount_in`` says.

        Unlike the number of examples that so many tokens are, they do not depend on the seed.

        Raises:
            InputError: The schedule does not fit the pool.
        """
        return [sum(amount.values()) if isinstance(amount, dict) else amount for amount in self._kept.amounts(schedule)]

    def remarks_on(self, schedule: Schedule) -> list[str]:
        """Sentences on amounts of a schedule that may not be meant as they are written, such as 1 for the whole pool.

        Raises:
            InputError: The schedule does not fit the pool.
        """
        return self._kept.remarks(schedule)

    def compositions(self, schedule: Schedule, seed: int) -> list[dict[str, int]]:
        """The number of out-of-domain examples of each named source in the stages of a schedule under a seed.

        Raises:
            InputError: The schedule does not fit the pool.
        """
        return [
            dict(zip(self.sources, counts)) for counts in self._kept.counts(schedule, lambda: self._order_under(seed))
        ]

    @property
    def in_domain_size(self) -> int:
        """The number of in-domain training examples, without those held out for validation or test."""
        return size_of(self.domains.in_domain) - len(self._left_out["in_domain"])

    def left_out(self, part: str) -> npt.NDArray[np.int64]:
        """Return the sorted positions of a part's examples that are held out for validation or test."""
        return self._left_out.get(part, np.empty(0, dtype=np.int64))

    @property
    def examples_per_epoch(self) -> int:
        """The number of examples in an epoch of the current stage, each as often as it occurs."""
        return len(self.in_domain_positions()) + self.amounts[self._stage]

    @property
    def pool_size(self) -> int:
        """The number of examples in the pool, without those held out for validation or test."""
        return self._kept.size

    @property
    def source_sizes(self) -> dict[str, int]:
        """The number of examples of each named source, without those held out."""
        return self._kept.sizes if self.sources else {}

    def relevance(self) -> npt.NDArray[np.floating]:
        """Return the scores of the examples that are kept, by which the pool is ordered, one source after the other.

        They are computed once. There must be a pool, in an order that is not uniform.

        Raises:
            InputError: The scores cannot be computed, or the column of scores does not hold numbers.
        """
        if self._scores is None:
            self._scores = pool_scores(self, self.order)
        return self._scores

    def sample(self) -> npt.NDArray[np.int64]:
        """Return the positions of the current stage's sample in the out-of-domain dataset.

        They are in random order, or for a pool with named sources one source after the other, each in its own order.
        """
        counts = self._counts_of_stages()[self._stage]
        if not sum(counts):
            return np.empty(0, dtype=np.int64)
        return self._kept.positions(self._order_under(self.seed).of_each(counts))

    def sample_tokens(self) -> int:
        """Return the number of tokens in the current stage's sample.

        Raises:
            InputError: The datasets have no ``lengths``.
        """
        return self._kept.tokens_at(self.sample())

    def sample_ids(self) -> list[str]:
        """Return the ids of the current stage's out-of-domain examples, in the order of ``sample``.

        With named sources, an id is preceded by the name of its source, as in ``books/17``, since two sources may have
        the same ids.

        Raises:
            InputError: An id is empty or contains a line break: ids are written to a file, one per line.
        """
        return self.pool_ids(self.sample())

    def pool_ids(self, positions: npt.NDArray[np.int64]) -> list[str]:
        """Return the ids of out-of-domain examples, as ``sample_ids`` does.

        Args:
            positions: Positions in the out-of-domain dataset, one source after the other.
        """
        ids: list[str] = []
        for name, start, part in sources_of(self.domains.out_of_domain) if len(positions) else ():
            inside = positions[(start <= positions) & (positions < start + size_of(part))] - start
            ids += [f"{name}/{id_}" if name else id_ for id_ in ids_at(part, inside, self.id_of)]
        return ids

    def pool_positions(self, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Convert positions among the out-of-domain examples that are not held out to positions in the dataset."""
        return self._kept.positions(kept)

    def ids_of(self, part: str, positions: npt.NDArray[np.int64]) -> list[str]:
        """Return the ids of examples of a part other than the pool."""
        return ids_at(getattr(self.domains, part), positions, self.id_of)

    def in_domain_positions(self) -> npt.NDArray[np.int64]:
        """Return the positions of an epoch's in-domain examples, each as often as the current stage has it."""
        size, weight = self.in_domain_size, self._schedule[self._stage].in_domain_weight or 1.0
        times, rest = divmod(round(weight * size), size) if size else (0, 0)
        again = draw(size, rest, derive_seed(self.seed, "in-domain"))
        return skipping(self._left_out["in_domain"], np.concatenate([*[np.arange(size)] * times, again]))

    def _load_once(self) -> None:
        if self._domains is None:
            domains = self.load()
            if not isinstance(domains, Domains):
                raise InputError(
                    f"{type(self).__name__}.load() returned {found(domains)}: it must return a gradual.Domains."
                )
            if not self.reads_test:
                domains = replace(domains, test=None)
            self._left_out = held_out(domains, self.id_of)
            self._domains = domains
        if self._counts is None:
            self._counts = self._checked(self._schedule)

    def _checked(self, schedule: Schedule) -> list[tuple[int, ...]]:
        counts = self._kept.counts(schedule, lambda: self._order_under(self.seed))
        if self.in_domain_size + sum(counts[-1]) == 0:
            why = "is empty" if not len(self._left_out["in_domain"]) else "is also in the validation or test data"
            raise InputError(f"There are no training examples: the in-domain data {why}.")
        return counts

    def _counts_of_stages(self) -> list[tuple[int, ...]]:
        """The number of examples of each source, in each stage."""
        self._load_once()
        assert self._counts is not None
        return self._counts

    @property
    def _kept(self) -> KeptPool:
        """The pool without examples that are held out."""
        if self._kept_pool is None:
            self._kept_pool = KeptPool(self.domains.out_of_domain, self._left_out["out_of_domain"], self.amount_in)
        return self._kept_pool

    def _order_under(self, seed: int) -> PoolOrder:
        """The order of the pool under a seed, made once."""
        if self._pool_order is None or self._pool_order[0] != seed:
            sizes, weights = self._kept.sizes, self._kept.weights
            order: PoolOrder = UniformOrder(sizes, weights, seed)
            if not self.order.is_uniform and self.pool_size:
                order = ranked(self.relevance(), sizes, weights, seed, self.order.noise)
            self._pool_order = seed, order
        return self._pool_order[1]
