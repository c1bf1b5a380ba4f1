"""Batches whose order depends only on seed and epoch, and a loader that can resume in the middle of an epoch.

Lightning restores a loop's position, but not the order of a shuffling sampler. With these two classes a resumed epoch
continues with exactly the examples that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from gradual.data.order import derive_seed
from gradual.distributed import rank_and_world_size


class EpochBatches(Sampler[list[int]]):
    """Batches of example indices, distributed among the processes of a run.

    Every process computes the same global list of batches and takes every ``world_size``-th. The list is filled up to a
    multiple of the world size with its own first batches, because processes that take different numbers of steps would
    wait for each other forever. In training, a repeated batch is one more step. In evaluation it is borrowed: the
    process runs it only to keep step with the others, and it counts nowhere (``is_borrowed``).

    Args:
        size: Number of examples.
        batch_size: Examples per batch, of which the last may have fewer; or, with ``lengths``, tokens per batch.
        seed: Determines the order, together with the epoch.
        train: Whether to shuffle.
        lengths: Tokens of each example. Batches then have nearly the same number of tokens, at most ``batch_size`` on
            average, and their number is the same in every epoch, as Lightning requires.
        one_order: Use the order of the first epoch in every epoch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        *,
        train: bool,
        lengths: npt.NDArray[np.integer] | None = None,
        one_order: bool = False,
    ):
        self.size, self.batch_size, self.seed, self.train = size, batch_size, seed, train
        self.lengths, self.one_order = lengths, one_order
        self.epoch = 0
        self.start = 0  # batches to skip in a resumed epoch, once
        self.sampler = self  # Lightning looks for set_epoch on batch_sampler.sampler, not on batch_sampler

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        _, world_size = rank_and_world_size()
        return -(-self._count() // world_size)

    @property
    def own(self) -> int:
        """The number of this process's batches that count in an evaluation; those after them are borrowed."""
        rank, world_size = rank_and_world_size()
        return len(range(rank, self._count(), world_size))

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        order = self._order()
        edges = np.concatenate([[0], self._cuts(order), [self.size]])
        batches = len(edges) - 1 if self.size else 0
        rank, world_size = rank_and_world_size()
        filled = batches + -batches % world_size
        for number in range(rank, filled, world_size)[start:]:
            first, end = edges[number % batches : number % batches + 2]
            yield order[
                first:end
            ].tolist()  # batch by batch, since a list of the whole order would take four times the memory

    def _order(self) -> npt.NDArray[np.int64]:
        if not self.train:
            return np.arange(self.size)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", 0 if self.one_order else self.epoch))
        return torch.randperm(self.size, generator=generator).numpy()

    def _count(self) -> int:
        if self.lengths is None:
            return -(-self.size // self.batch_size)
        count = -(-int(self.lengths.sum()) // self.batch_size)
        if self.train:  # better to have slightly different batch sizes than repeated batches
            _, world_size = rank_and_world_size()
            count += -count % world_size
            if count > self.size >= world_size:
                return self.size - self.size % world_size
        return min(self.size, count)

    def _cuts(self, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Compute where every batch except the first begins."""
        inner = np.arange(1, self._count())
        if self.lengths is None:
            return inner * self.batch_size
        ends = np.cumsum(self.lengths[order])
        cuts = np.searchsorted(ends, ends[-1:] * inner / (len(inner) + 1)) + 1
        cuts = np.maximum.accumulate(cuts - inner) + inner  # no batch is empty, however long an example is
        return np.minimum(cuts, self.size - len(inner) - 1 + inner)


class Share(Subset[Any]):
    """The share of a dataset that one process evaluates, for a loader that divides it into the same batches again.

    Args:
        dataset: The whole dataset.
        batches: Its batches, for evaluation: only a process's last batch may be shorter.
    """

    def __init__(self, dataset: Dataset[Any], batches: EpochBatches):
        super().__init__(dataset, list(chain.from_iterable(batches)))
        self.own = batches.own


def is_borrowed(loader: Any, index: int) -> bool:
    """Whether batch ``index`` of an evaluation loader belongs to another process and must not count in this one."""
    batches = getattr(loader, "batch_sampler", None)
    held_by = batches if isinstance(batches, EpochBatches) else getattr(loader, "dataset", None)
    return isinstance(held_by, EpochBatches | Share) and index >= held_by.own


class ResumableLoader(DataLoader[Any]):
    """A ``DataLoader`` over ``EpochBatches`` that resumes from a Lightning checkpoint at the exact batch.

    It has its own generator: a loader without one draws from the global random state whenever it is iterated, and a
    different number of draws after a resume would change every dropout mask. Workers take their seeds from it, so it is
    seeded by the seed and epoch of the batches, and the process.
    """

    def __init__(self, dataset: Any, batches: EpochBatches, **arguments: Any):
        super().__init__(dataset, batch_sampler=batches, generator=torch.Generator(), **arguments)
        self._batches = batches
        self._delivered = 0
        self._resume_at = 0
        self._resume_epoch = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # a generator, so that it starts only after Lightning has called set_epoch
        resumes = self._batches.epoch == self._resume_epoch  # not if limit_train_batches has ended that epoch
        self._delivered = self._batches.start = self._resume_at if resumes else 0
        self._resume_at = 0
        rank, _ = rank_and_world_size()
        self.generator.manual_seed(derive_seed(self._batches.seed, "workers", rank, self._batches.epoch))
        for batch in super().__iter__():
            self._delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches delivered in this epoch, not counting those that workers have prefetched."""
        return {"delivered": self._delivered, "epoch": self._batches.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration start after the batches that were delivered before the checkpoint."""
        self._delivered = self._resume_at = state["delivered"] % max(1, len(self._batches))
        self._batches.epoch = self._resume_epoch = state["epoch"]
