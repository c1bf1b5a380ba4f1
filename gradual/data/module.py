"""The data of a gradual run: in-domain examples, a pool of out-of-domain ones, and which of them a stage uses."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from gradual.checks import check_fields, checked, found
from gradual.data.arguments import BATCHES, DATASET
from gradual.data.loader import EpochBatches, ResumableLoader, Share
from gradual.data.order import derive_seed, draw
from gradual.data.text import is_line
from gradual.errors import InputError
from gradual.schedule import SCHEDULE, Schedule, Stage
from gradual.settings import SEED

log = logging.getLogger(__name__)

_PARTS = dict.fromkeys(("in_domain", "out_of_domain", "val", "test", "predict"), DATASET)


@dataclass
class Domains:
    """The datasets of an experiment, all map-style (``__len__`` and ``__getitem__``).

    Attributes:
        in_domain: Training examples of the target domain; part of every stage.
        out_of_domain: The pool that the stages sample from; None for none.
        val: Validation examples, in-domain only.
        test: Test examples, in-domain only; None for none.
        predict: What ``predict`` runs on; None for the test examples.
    """

    in_domain: Dataset[Any]
    out_of_domain: Dataset[Any] | None = None
    val: Dataset[Any] | None = None
    test: Dataset[Any] | None = None
    predict: Dataset[Any] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "{}", **_PARTS)


class MixedDomainDataModule(LightningDataModule):
    """In-domain data mixed with a stage's sample of out-of-domain data (Xu et al., 2021, Algorithm 1).

    Works with any map-style datasets and collate function. A task subclasses it and implements ``load``; anyone else
    passes datasets. ``set_stage(k)`` decides which examples ``train_dataloader`` mixes; each stage's sample is
    contained in the one before.

    An example's id is ``id_of(example)``, else its entry in the dataset's own ``ids``, else its position. Training
    examples whose id is also in the validation or test data are left out, and their number is logged once; positions
    say nothing about identity and are not compared. Comparing passes over the ids of the pool once, when the data is
    set up (with ``id_of``, over its examples); what comes after costs time and memory for a stage's sample, not for the
    pool. A large pool keeps its ``ids`` in something with an ``isin``, such as a pandas Index.

    Args:
        in_domain: Training examples of the target domain.
        out_of_domain: The pool.
        val: Validation examples.
        test: Test examples.
        schedule: Amounts of out-of-domain data by stage; ``gradual.fit`` sets its own.
        batch_size: Training examples in a batch, per process; a stage may override it.
        eval_batch_size: Examples in an evaluation batch; None for ``batch_size``.
        batch_tokens: Instead of a number of examples, the tokens that a batch holds on average at most, in whole
            examples; the datasets then say the tokens of each example in ``lengths``. A stage that overrides the batch
            size counts examples.
        collate_fn: Makes a batch from a list of examples; None for torch's default.
        id_of: Gives an example's id.
        num_workers: Processes that load data; 0 loads in the main one.
        seed: Decides the samples and the order of the batches; ``gradual.fit`` sets its own.
    """

    @checked(schedule=SCHEDULE, seed=SEED, **BATCHES, **_PARTS)
    def __init__(
        self,
        in_domain: Dataset[Any] | None = None,
        out_of_domain: Dataset[Any] | None = None,
        val: Dataset[Any] | None = None,
        test: Dataset[Any] | None = None,
        *,
        schedule: Schedule | Iterable[float | Stage | Mapping[str, Any]] = (0,),
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        batch_tokens: int | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        id_of: Callable[[Any], str] | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self._given = (in_domain, out_of_domain, val, test)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.batch_tokens = batch_tokens
        self.collate_fn = collate_fn
        self.id_of = id_of
        self.num_workers = num_workers
        self.seed = seed
        self._domains: Domains | None = None
        self._amounts: list[int] | None = None
        self._left_out = dict.fromkeys(("in_domain", "out_of_domain"), np.empty(0, dtype=np.int64))
        self.schedule = schedule

    def load(self) -> Domains:
        """The datasets. Called once in each process, however many stages, fits and tests follow."""
        in_domain, out_of_domain, val, test = self._given
        if in_domain is None:
            raise InputError(f"{type(self).__name__} has no in-domain data: pass in_domain=, or implement load().")
        return Domains(in_domain, out_of_domain, val, test)

    def content_of(self, part: str) -> str | None:
        """A digest of all that a part of the data is made from, such as the bytes of its files.

        A run directory is refused to a run whose data have another one. None, where a subclass does not know better,
        stands for a sample of the examples.

        Args:
            part: ``in_domain``, ``out_of_domain``, ``val`` or ``test``, which is there.
        """
        return None

    def spec(self) -> Any:
        """Return what a model must know of the data, such as its labels; None by default.

        Called after ``load``. A model with a method ``configure_data`` receives it; see ``gradual.tasks.base``.
        """
        return None

    def setup(self, stage: str | None = None) -> None:
        """Load the data, once, and configure the model for it; Lightning calls this before every fit and test."""
        self._load_once()
        if self.trainer is not None:
            self.configure(self.trainer.lightning_module)

    def configure(self, model: LightningModule) -> None:
        """Pass ``spec`` to the model's ``configure_data``; do nothing for a model without one."""
        configure_data = getattr(model, "configure_data", None)
        if configure_data is not None:
            self._load_once()
            configure_data(self.spec())

    def _load_once(self) -> None:
        if self._domains is None:
            domains = self.load()
            if not isinstance(domains, Domains):
                raise InputError(
                    f"{type(self).__name__}.load() returned {found(domains)}: it must return a gradual.Domains."
                )
            self._drop_held_out(domains)
            self._domains = domains
        if self._amounts is None:
            self._amounts = self._checked(self._schedule)

    @property
    def domains(self) -> Domains:
        """The datasets; loads them if that was not done yet."""
        if self._domains is None:
            self._load_once()
        assert self._domains is not None
        return self._domains

    @property
    def schedule(self) -> Schedule:
        """The stages. Assigning a list or a ``Schedule`` checks it against the pool and goes back to stage 0."""
        return self._schedule

    @schedule.setter
    def schedule(self, stages: Schedule | Iterable[Any]) -> None:
        schedule = stages if isinstance(stages, Schedule) else Schedule(stages)
        self._amounts = None if self._domains is None else self._checked(schedule)
        self._schedule, self._stage = schedule, 0

    @property
    def stage(self) -> int:
        """The current stage, counted from 0."""
        return self._stage

    def set_stage(self, k: int) -> None:
        """Use stage ``k``'s sample from the next ``train_dataloader`` on.

        May be called before or after ``setup``, in any order and any number of times: the sample depends on the seed
        and the amount alone.

        Raises:
            InputError: The schedule has no stage ``k``.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < len(self._schedule):
            raise InputError(f"There is no stage {k!r}: the schedule has {len(self._schedule)} stages, counted from 0.")
        self._stage = k

    @property
    def amounts(self) -> list[int]:
        """Out-of-domain examples of each stage, as counts."""
        self._load_once()
        assert self._amounts is not None
        return list(self._amounts)

    @property
    def in_domain_size(self) -> int:
        """In-domain training examples, without those held out for validation or test."""
        return _size(self.domains.in_domain) - len(self._left_out["in_domain"])

    def left_out(self, part: str) -> npt.NDArray[np.int64]:
        """Positions in a part's dataset of the examples that are held out for validation or test, sorted."""
        return self._left_out.get(part, np.empty(0, dtype=np.int64))

    @property
    def pool_size(self) -> int:
        """Examples in the pool, without those held out for validation or test."""
        pool = self.domains.out_of_domain
        return 0 if pool is None else _size(pool) - len(self._left_out["out_of_domain"])

    def sample(self) -> npt.NDArray[np.int64]:
        """Indices into the out-of-domain dataset that the current stage uses, in the pool's random order."""
        drawn = draw(self.pool_size, self.amounts[self._stage], self.seed)
        return _around(self._left_out["out_of_domain"], drawn)

    def sample_ids(self) -> list[str]:
        """Ids of the out-of-domain examples that the current stage uses, in the order of ``sample``.

        Raises:
            InputError: One is empty or has a line end inside: they are written down one a line.
        """
        sample, pool = self.sample(), self.domains.out_of_domain
        if not len(sample):
            return []
        if self.id_of is not None:
            found = [str(self.id_of(pool[index])) for index in sample.tolist()]  # type: ignore[index]
        elif getattr(pool, "ids", None) is None:
            return [str(index) for index in sample]
        else:
            found = [str(id_) for id_ in _at(pool.ids, sample)]  # type: ignore[union-attr]
        for id_ in found:
            if not is_line(id_):
                raise InputError(f"An out-of-domain example has the id {id_!r:.80}: accepted is text in one line.")
        return found

    def statistics(self) -> dict[str, dict[str, int]]:
        """Sizes of the data, for ``gradual stats``: columns of rows; a task adds what its field counts."""
        parts = {"train (in-domain)": self.in_domain_size, "pool (out-of-domain)": self.pool_size}
        for name, dataset in (("dev", self.domains.val), ("test", self.domains.test)):
            parts[name] = 0 if dataset is None else _size(dataset)
        return {"examples": parts}

    def train_batch_size(self) -> str:
        """What a training batch of the current stage holds, in words."""
        own = self._schedule[self._stage].batch_size
        return f"{self.batch_tokens} tokens" if self.batch_tokens and not own else str(own or self.batch_size)

    def steps_per_epoch(self) -> int:
        """Training batches in an epoch of the current stage, with one process."""
        return len(self.train_dataloader())

    def train_dataloader(self) -> ResumableLoader:
        """All in-domain examples and the current stage's sample of the pool, shuffled together each epoch."""
        domains, stage = self.domains, self._schedule[self._stage]
        parts: list[Dataset[Any]] = [domains.in_domain]
        if len(self._left_out["in_domain"]):
            kept = _around(self._left_out["in_domain"], np.arange(self.in_domain_size))
            parts = [_subset(domains.in_domain, kept)]
        sample = self.sample()
        if len(sample):
            assert domains.out_of_domain is not None
            parts.append(_subset(domains.out_of_domain, sample))
        # by amounts, not by position: a stage that two schedules share is the same stage in both
        seed = derive_seed(self.seed, *self.amounts[: self._stage + 1])
        dataset = parts[0] if len(parts) == 1 else _Mixed(parts)
        # Lightning's overfit_batches takes the first batches of each epoch: they are to be the same ones
        one_order = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        if self.batch_tokens is None or stage.batch_size is not None:
            size, lengths = stage.batch_size or self.batch_size, None
        else:
            size, lengths = self.batch_tokens, np.concatenate([_lengths(part) for part in parts])
        batches = EpochBatches(_size(dataset), size, seed, train=True, lengths=lengths, one_order=one_order)
        return self._loader(dataset, batches)

    def val_dataloader(self) -> ResumableLoader:
        """The validation examples, in their order."""
        return self._eval_loader(self.domains.val, "validation")

    def test_dataloader(self) -> ResumableLoader:
        """The test examples, in their order."""
        return self._eval_loader(self.domains.test, "test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The examples to predict, in their order; the test examples where nothing else is given.

        The batches are divided among processes as in every evaluation, but by a plain loader, since Lightning rebuilds
        this one to learn which examples a batch holds.
        """
        dataset = self.domains.test if self.domains.predict is None else self.domains.predict
        if dataset is None:
            raise InputError(f"{type(self).__name__} has no prediction data.")
        share = Share(dataset, EpochBatches(_size(dataset), self.eval_batch_size, 0, train=False))
        return DataLoader(
            share, batch_size=self.eval_batch_size, collate_fn=self.collate_fn, num_workers=self.num_workers
        )

    def _eval_loader(self, dataset: Dataset[Any] | None, name: str) -> ResumableLoader:
        if dataset is None:
            raise InputError(f"{type(self).__name__} has no {name} data.")
        if self.batch_tokens is None:
            batches = EpochBatches(_size(dataset), self.eval_batch_size, 0, train=False)
        else:
            lengths = _lengths(dataset)
            batches = EpochBatches(_size(dataset), self.batch_tokens, 0, train=False, lengths=lengths)
        return self._loader(dataset, batches)

    def _loader(self, dataset: Dataset[Any], batches: EpochBatches) -> ResumableLoader:
        return ResumableLoader(
            dataset,
            batches,
            collate_fn=self.collate_fn,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _checked(self, schedule: Schedule) -> list[int]:
        amounts = schedule.amounts(self.pool_size)
        if self.in_domain_size + amounts[-1] == 0:
            why = "is empty" if not len(self._left_out["in_domain"]) else "is in the validation or test data, too"
            raise InputError(f"There are no training examples: the in-domain data {why}.")
        return amounts

    def _drop_held_out(self, domains: Domains) -> None:
        held_out: set[Any] = set()
        for dataset in (domains.val, domains.test):
            ids = self._ids(dataset)
            held_out.update(() if ids is None else ids)  # an array has no truth value
        dropped = {}
        for name in self._left_out if held_out else ():
            ids = self._ids(getattr(domains, name))
            self._left_out[name] = np.empty(0, dtype=np.int64) if ids is None else _positions(ids, held_out)
            if len(self._left_out[name]):
                dropped[name.replace("_", "-")] = len(self._left_out[name])
        if dropped:
            counts = " and ".join(f"{count} {name}" for name, count in dropped.items())
            rank_zero_only(log.warning)(
                "Left out of training, being in the validation or test data: %s examples.", counts
            )

    def _ids(self, dataset: Dataset[Any] | None) -> Iterable[Any] | None:
        if dataset is None:
            return None
        if self.id_of is not None:
            return (self.id_of(dataset[index]) for index in range(_size(dataset)))
        return getattr(dataset, "ids", None)


class _Mixed(ConcatDataset[Any]):
    """Several datasets as one, which reads a batch at once from those that can."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        examples: list[Any] = [None] * len(indices)
        part_of = np.searchsorted(self.cumulative_sizes, indices, side="right")
        for part, dataset in enumerate(self.datasets):
            places = np.flatnonzero(part_of == part).tolist()
            start = self.cumulative_sizes[part] - _size(dataset)
            inside = [indices[place] - start for place in places]
            read = getattr(dataset, "__getitems__", None)
            found = read(inside) if read and inside else [dataset[index] for index in inside]
            for place, example in zip(places, found, strict=True):
                examples[place] = example
        return examples


def _subset(dataset: Dataset[Any], indices: npt.NDArray[np.int64]) -> Subset[Any]:
    numbers = array("q")  # eight bytes each, and still Python's own for a dataset that asks for them
    numbers.frombytes(indices.view(np.uint8).data)
    return Subset(dataset, numbers)


def _around(left_out: npt.NDArray[np.int64], kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions in a dataset of its ``kept``-th examples, counted without the sorted positions that are left out."""
    if not len(left_out):
        return kept
    return kept + np.searchsorted(left_out - np.arange(len(left_out)), kept, side="right")


def _positions(ids: Iterable[Any], held_out: set[Any]) -> npt.NDArray[np.int64]:
    """Where a held-out id stands among ``ids``."""
    if hasattr(ids, "isin"):
        return np.flatnonzero(ids.isin(list(held_out)))
    return np.fromiter((position for position, id_ in enumerate(ids) if id_ in held_out), dtype=np.int64)


def _at(column: Any, indices: npt.NDArray[np.int64]) -> Any:
    """Entries of a column, at once where it is an array of some kind (numpy, pandas, Arrow)."""
    return column[indices] if hasattr(column, "__array__") else [column[index] for index in indices.tolist()]


def _size(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]


def _lengths(dataset: Dataset[Any]) -> npt.NDArray[np.integer]:
    """Tokens of each example."""
    whole = dataset.dataset if isinstance(dataset, Subset) else dataset
    lengths = getattr(whole, "lengths", None)
    if lengths is None:
        raise InputError(f"batch_tokens needs to know how long examples are: {type(whole).__name__} has no lengths.")
    return np.asarray(_at(lengths, np.asarray(dataset.indices)) if isinstance(dataset, Subset) else lengths)
