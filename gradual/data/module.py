"""The data of a run: in-domain examples, a pool of out-of-domain examples, and which of them each stage uses."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from gradual.checks import check, check_fields, checked, found
from gradual.data.arguments import BATCHES, DATASET, POOL_DATA
from gradual.data.kept_pool import AmountIn, KeptPool
from gradual.data.loader import EpochBatches, ResumableLoader, Share
from gradual.data.order import derive_seed, draw
from gradual.data.pool_order import PoolOrder, UniformOrder
from gradual.data.relevance.of_data import pool_scores
from gradual.data.relevance.ranking import ranked
from gradual.data.relevance.settings import Order
from gradual.data.sources import IN_DOMAIN, Pool, part_of, sources_of
from gradual.data.subsets import Joined, entries_at, lengths_of, positions_of, size_of, skipping, subset
from gradual.data.text import is_line
from gradual.errors import InputError
from gradual.schedule import SCHEDULE, Schedule, Stage
from gradual.settings import SEED

log = logging.getLogger(__name__)

_PARTS = dict.fromkeys(("in_domain", "val", "test", "predict"), DATASET) | {"out_of_domain": POOL_DATA}


@dataclass
class Domains:
    """The datasets of an experiment, all map-style (with ``__len__`` and ``__getitem__``).

    Attributes:
        in_domain: Training examples from the target domain, used in every stage.
        out_of_domain: The pool that stages sample from: a dataset, or a mapping of named sources, each a dataset or a
            ``Source``, which becomes a ``gradual.data.sources.Pool``; None for none.
        val: Validation examples from the target domain.
        test: Test examples from the target domain; None for none.
        predict: Examples to predict; None for the test examples.
    """

    in_domain: Dataset[Any]
    out_of_domain: Any = None
    val: Dataset[Any] | None = None
    test: Dataset[Any] | None = None
    predict: Dataset[Any] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "{}", **_PARTS)
        if isinstance(self.out_of_domain, Mapping):
            self.out_of_domain = Pool(self.out_of_domain)


def source_row(name: str) -> str:
    """What the row of a source is called in ``MixedDomainDataModule.statistics``."""
    return f"pool, {name}"


class MixedDomainDataModule(LightningDataModule):
    """In-domain data mixed with the current stage's sample of out-of-domain data (Xu et al., 2021, Algorithm 1).

    Works with any map-style datasets and any collate function: pass datasets, or subclass it and implement ``load``.
    ``set_stage(k)`` selects the sample that ``train_dataloader`` mixes in; each sample is a subset of the one before.

    The id of an example is ``id_of(example)`` if given, else its entry in the dataset's ``ids``, else its position.
    Training examples whose id also occurs in the validation or test data are left out, and their number is logged.
    Positions do not identify examples, so they are not compared. The comparison reads the ids of the pool once, during
    setup (with ``id_of``, all its examples); afterwards, time and memory depend on the size of the samples and not of
    the pool. For a large pool, ``ids`` should have a method ``isin``, like a pandas Index.

    Args:
        in_domain: Training examples from the target domain.
        out_of_domain: The pool: a dataset, or a mapping of named sources, each a dataset or a ``gradual.Source`` with a
            weight.
        val: Validation examples.
        test: Test examples.
        schedule: Amount of out-of-domain data in each stage; ``gradual.fit`` replaces it.
        amount_in: What amounts count: ``examples``, or ``tokens``, whose numbers the datasets provide as ``lengths``.
            A stage keeps as many examples of the order as have at most that many tokens.
        batch_size: Number of training examples in a batch, per process; a stage may override it.
        eval_batch_size: Number of examples in an evaluation batch; None for ``batch_size``.
        batch_tokens: Maximum size of a batch in tokens, on average, instead of a number of examples. Batches hold whole
            examples, whose numbers of tokens the datasets provide as ``lengths``. Does not apply to stages that
            override the batch size.
        collate_fn: Makes a batch from a list of examples; None for torch's default.
        id_of: Returns the id of an example.
        order: The order in which the pool is kept, see ``gradual.data.relevance.settings.Order``: ``uniform``,
            ``relevance``, or a mapping such as ``{"by": "classifier", "noise": 0.5}``. A column is an attribute of the
            datasets of the pool, with a number for each example.
        text_of: Returns the text of an example, which an order by relevance reads; not needed for datasets of files.
        num_workers: Number of processes that load data; 0 to load in the main process.
        seed: Determines the samples and the order of batches; ``gradual.fit`` replaces it.

    Attributes:
        reads_test: Whether there is test data; False in what ``without_test`` returns, whose ``load`` should leave the
            test data unread.
    """

    reads_test = True

    @checked(schedule=SCHEDULE, seed=SEED, **BATCHES, **_PARTS)
    def __init__(
        self,
        in_domain: Dataset[Any] | None = None,
        out_of_domain: Any = None,
        val: Dataset[Any] | None = None,
        test: Dataset[Any] | None = None,
        *,
        schedule: Schedule | Iterable[float | Stage | Mapping[str, Any]] = (0,),
        amount_in: AmountIn = "examples",
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        batch_tokens: int | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        id_of: Callable[[Any], str] | None = None,
        order: Order | dict[str, Any] | str = "uniform",
        text_of: Callable[[Any], str] | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self._given = (in_domain, out_of_domain, val, test)
        self.amount_in: AmountIn = check("amount_in", amount_in, AmountIn)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.batch_tokens = batch_tokens
        self.collate_fn = collate_fn
        self.id_of, self.text_of = id_of, text_of
        self.order = Order.of(order)
        self.num_workers = num_workers
        self._seed = seed
        self._domains: Domains | None = None
        self._counts: list[tuple[int, ...]] | None = None
        self._kept_pool: KeptPool | None = None
        self._pool_order: tuple[int, PoolOrder] | None = None
        self._left_out = dict.fromkeys(("in_domain", "out_of_domain"), np.empty(0, dtype=np.int64))
        self.schedule = schedule

    def load(self) -> Domains:
        """Return the datasets. Called once per process, no matter how many stages, fits and tests follow."""
        in_domain, out_of_domain, val, test = self._given
        if in_domain is None:
            raise InputError(f"{type(self).__name__} has no in-domain data: pass in_domain, or implement load().")
        return Domains(in_domain, out_of_domain, val, test if self.reads_test else None)

    def without_test(self) -> Self:
        """Return a copy without test data: nothing is known of it, not even which training examples it holds out."""
        other = copy.copy(self)
        other.reads_test, other._domains = False, None
        other._counts = other._kept_pool = other._pool_order = None
        other._left_out = dict.fromkeys(self._left_out, np.empty(0, dtype=np.int64))
        return other

    def content_of(self, part: str) -> str | None:
        """Return a digest of everything that a part of the data is made from, such as the bytes of its files.

        A run directory rejects runs whose data has another digest. By default, None: a sample of the examples is
        compared instead.

        Args:
            part: ``in_domain``, ``out_of_domain``, ``val`` or ``test``, or ``out_of_domain.NAME`` for each source of a
                pool with named sources; only called for parts that exist.
        """
        return None

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

    def spec(self) -> Any:
        """Return what a model must know about the data, such as its labels; None by default.

        Called after ``load``. Passed to models that have a method ``configure_data``, as ``TaskModule`` describes.
        """
        return None

    def setup(self, stage: str | None = None) -> None:
        """Load the data once, and configure the Trainer's model for it. Lightning calls this before every run."""
        self._load_once()
        if self.trainer is not None:
            self.configure(self.trainer.lightning_module)

    def configure(self, model: LightningModule) -> None:
        """Pass ``spec`` to the model's ``configure_data``, and the names of sources to its ``configure_sources``.

        Does nothing for a model without these methods.
        """
        configure_data = getattr(model, "configure_data", None)
        if configure_data is not None:
            self._load_once()
            configure_data(self.spec())
        configure_sources = getattr(model, "configure_sources", None)
        if configure_sources is not None and self.sources:
            configure_sources((IN_DOMAIN, *self.sources))

    def _load_once(self) -> None:
        if self._domains is None:
            domains = self.load()
            if not isinstance(domains, Domains):
                raise InputError(
                    f"{type(self).__name__}.load() returned {found(domains)}: it must return a gradual.Domains."
                )
            if not self.reads_test:
                domains = replace(domains, test=None)
            self._drop_held_out(domains)
            self._domains = domains
        if self._counts is None:
            self._counts = self._checked(self._schedule)

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
            ids += [f"{name}/{id_}" if name else id_ for id_ in self._ids_at(part, inside)]
        return ids

    def pool_positions(self, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Convert positions among the out-of-domain examples that are not held out to positions in the dataset."""
        return self._kept.positions(kept)

    def ids_of(self, part: str, positions: npt.NDArray[np.int64]) -> list[str]:
        """Return the ids of examples of a part other than the pool."""
        return self._ids_at(getattr(self.domains, part), positions)

    def rows(self, part: str) -> Any:
        """Return the examples of a training part as they were read, for ``gradual sample``: by default, the dataset.

        Args:
            part: ``in_domain``, ``out_of_domain`` or ``out_of_domain.NAME``.
        """
        if part == "in_domain":
            return self.domains.in_domain
        return next(own for name, _, own in sources_of(self.domains.out_of_domain) if part_of(name) == part)

    def _ids_at(self, dataset: Any, positions: npt.NDArray[np.int64]) -> list[str]:
        if self.id_of is not None:
            found = [str(self.id_of(dataset[index])) for index in positions.tolist()]
        elif getattr(dataset, "ids", None) is None:
            return [str(index) for index in positions]
        else:
            found = [str(id_) for id_ in entries_at(dataset.ids, positions)]
        for id_ in found:
            if not is_line(id_):
                raise InputError(f"A training example has the id {id_!r:.80}: it must be a single line of text.")
        return found

    def in_domain_positions(self) -> npt.NDArray[np.int64]:
        """Return the positions of an epoch's in-domain examples, each as often as the current stage has it."""
        size, weight = self.in_domain_size, self._schedule[self._stage].in_domain_weight or 1.0
        times, rest = divmod(round(weight * size), size) if size else (0, 0)
        again = draw(size, rest, derive_seed(self.seed, "in-domain"))
        return skipping(self._left_out["in_domain"], np.concatenate([*[np.arange(size)] * times, again]))

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return the sizes of the data for ``gradual stats``, as columns of named rows; tasks add their own counts."""
        parts = {"train (in-domain)": self.in_domain_size, "pool (out-of-domain)": self.pool_size}
        parts |= {source_row(name): size for name, size in self.source_sizes.items()}
        for name, dataset in (("dev", self.domains.val), ("test", self.domains.test)):
            parts[name] = 0 if dataset is None else size_of(dataset)
        return {"examples": parts}

    def train_batch_size(self) -> str:
        """Describe the size of a training batch in the current stage."""
        own = self._schedule[self._stage].batch_size
        return f"{self.batch_tokens} tokens" if self.batch_tokens and not own else str(own or self.batch_size)

    def steps_per_epoch(self) -> int:
        """Return the number of training batches in an epoch of the current stage, with a single process."""
        return len(self.train_dataloader())

    def train_dataloader(self) -> ResumableLoader:
        """Return a loader of all in-domain examples and the current stage's sample, shuffled together each epoch."""
        domains, stage = self.domains, self._schedule[self._stage]
        parts: list[Dataset[Any]] = [domains.in_domain]
        if len(self._left_out["in_domain"]) or stage.in_domain_weight is not None:
            parts = [subset(domains.in_domain, self.in_domain_positions())]
        sample = self.sample()
        if len(sample):
            assert domains.out_of_domain is not None
            parts.append(subset(domains.out_of_domain, sample))
        # depends on amounts rather than positions, so that a stage shared by two schedules is the same in both
        seed = derive_seed(self.seed, *self.amounts[: self._stage + 1])
        dataset = parts[0] if len(parts) == 1 else Joined(parts)
        # Lightning's overfit_batches uses the first batches of each epoch, which should always be the same
        one_order = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        if self.batch_tokens is None or stage.batch_size is not None:
            size, lengths = stage.batch_size or self.batch_size, None
        else:
            size, lengths = self.batch_tokens, np.concatenate([lengths_of(part) for part in parts])
        batches = EpochBatches(size_of(dataset), size, seed, train=True, lengths=lengths, one_order=one_order)
        return self._loader(dataset, batches)

    def val_dataloader(self) -> ResumableLoader:
        """Return a loader of the validation examples, in order."""
        return self._eval_loader(self.domains.val, "validation")

    def test_dataloader(self) -> ResumableLoader:
        """Return a loader of the test examples, in order."""
        return self._eval_loader(self.domains.test, "test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return a loader of the examples to predict, by default the test examples, in order.

        Batches are divided among processes as in every evaluation, but with a plain loader, since Lightning rebuilds
        this one to track which examples a batch contains.
        """
        dataset = self.domains.test if self.domains.predict is None else self.domains.predict
        if dataset is None:
            raise InputError(f"{type(self).__name__} has no prediction data.")
        share = Share(dataset, EpochBatches(size_of(dataset), self.eval_batch_size, 0, train=False))
        return DataLoader(
            share, batch_size=self.eval_batch_size, collate_fn=self.collate_fn, num_workers=self.num_workers
        )

    def _eval_loader(self, dataset: Dataset[Any] | None, name: str) -> ResumableLoader:
        if dataset is None:
            raise InputError(f"{type(self).__name__} has no {name} data.")
        if self.batch_tokens is None:
            batches = EpochBatches(size_of(dataset), self.eval_batch_size, 0, train=False)
        else:
            lengths = lengths_of(dataset)
            batches = EpochBatches(size_of(dataset), self.batch_tokens, 0, train=False, lengths=lengths)
        return self._loader(dataset, batches)

    def _loader(self, dataset: Dataset[Any], batches: EpochBatches) -> ResumableLoader:
        return ResumableLoader(
            dataset,
            batches,
            collate_fn=self.collate_fn,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

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
                order = ranked(pool_scores(self, self.order), sizes, weights, seed, self.order.noise)
            self._pool_order = seed, order
        return self._pool_order[1]

    def _drop_held_out(self, domains: Domains) -> None:
        held_out: set[Any] = set()
        for dataset in (domains.val, domains.test):
            ids = self._ids(dataset)
            held_out.update(() if ids is None else ids)  # arrays have no truth value
        dropped = {}
        for name in self._left_out if held_out else ():
            dataset, found = getattr(domains, name), [np.empty(0, dtype=np.int64)]
            for _, start, part in sources_of(dataset) if dataset is not None else ():
                ids = self._ids(part)
                found += [] if ids is None else [start + positions_of(ids, held_out)]
            self._left_out[name] = np.concatenate(found)
            if len(self._left_out[name]):
                dropped[name.replace("_", "-")] = len(self._left_out[name])
        if dropped:
            counts = " and ".join(f"{count} {name}" for name, count in dropped.items())
            rank_zero_only(log.warning)(
                "Left out of training because they are in the validation or test data: %s examples.", counts
            )

    def _ids(self, dataset: Dataset[Any] | None) -> Iterable[Any] | None:
        if dataset is None:
            return None
        if self.id_of is not None:
            return (self.id_of(dataset[index]) for index in range(size_of(dataset)))
        return getattr(dataset, "ids", None)
