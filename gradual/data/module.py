"""The data of a run: in-domain examples and the current stage's sample of the pool, as batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader, Dataset

from gradual.checks import checked
from gradual.data.arguments import BATCHES, DATASETS
from gradual.data.domains import Domains
from gradual.data.kept_pool import AmountIn
from gradual.data.loader import EpochBatches, ResumableLoader, Share
from gradual.data.order import derive_seed
from gradual.data.relevance.settings import Order
from gradual.data.sources import IN_DOMAIN, part_of, sources_of
from gradual.data.stage_samples import StagedDataModule
from gradual.data.subsets import Joined, lengths_of, size_of, subset
from gradual.errors import InputError
from gradual.schedule import SCHEDULE, Schedule, Stage
from gradual.settings import SEED


def source_row(name: str) -> str:
    """What the row of a source is called in ``MixedDomainDataModule.statistics``."""
    return f"pool, {name}"


class MixedDomainDataModule(StagedDataModule):
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
        eval_batch_size: Number of examples in an evaluation batch; None for ``batch_size``. Where ``batch_tokens``
            is set, only predictions use it.
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

    @checked(schedule=SCHEDULE, seed=SEED, **BATCHES, **DATASETS)
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
        super().__init__(schedule, seed, amount_in, order, id_of, text_of)
        self._given = (in_domain, out_of_domain, val, test)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.batch_tokens = batch_tokens
        self.collate_fn = collate_fn
        self.num_workers = num_workers

    def load(self) -> Domains:
        """Return the datasets. Called once per process, no matter how many stages, fits and tests follow."""
        in_domain, out_of_domain, val, test = self._given
        if in_domain is None:
            raise InputError(f"{type(self).__name__} has no in-domain data: pass in_domain, or implement load().")
        return Domains(in_domain, out_of_domain, val, test if self.reads_test else None)

    def without_test(self) -> Self:
        """Return a copy without test data: nothing is known of it, not even which training examples it holds out."""
        other = copy.copy(self)
        other.reads_test = False
        other._forget()
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

    def example_settings(self) -> Mapping[str, Any]:
        """Return the settings that decide how examples and batches are made of what ``content_of`` digests.

        They are plain data and tokenizers, by name, such as ``max_length``, and do not say where files are. A run
        directory rejects runs with other ones. By default, there are none. Called after ``load``.
        """
        return {}

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

    def rows(self, part: str) -> Any:
        """Return the examples of a training part as they were read, for ``gradual sample``: by default, the dataset.

        Args:
            part: ``in_domain``, ``out_of_domain`` or ``out_of_domain.NAME``.
        """
        if part == "in_domain":
            return self.domains.in_domain
        return next(own for name, _, own in sources_of(self.domains.out_of_domain) if part_of(name) == part)

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
