"""The order of a pool by scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradual.data.order import draw, gumbel_noise
from gradual.data.pool_order import Indices, PoolOrder

_BLOCK = 1 << 20


@dataclass(frozen=True)
class RankedOrder(PoolOrder):
    """The examples with the highest scores first, those with equal scores in uniform order.

    Attributes:
        ranking: All examples of the pool in order, each source's positions counted from its own start.
        sources: The source of each of them; None for a pool without names.
    """

    ranking: npt.NDArray[np.uint32]
    sources: npt.NDArray[np.uint16] | None

    def _own(self, index: int, count: int) -> Indices:
        if self.sources is None:
            return self.ranking[:count].astype(np.int64)
        found, missing = [], count
        for start in range(0, len(self.ranking), _BLOCK):
            if not missing:
                break
            inside = self.ranking[start : start + _BLOCK][self.sources[start : start + _BLOCK] == index][:missing]
            found.append(inside.astype(np.int64))
            missing -= len(inside)
        return np.concatenate([np.empty(0, dtype=np.int64), *found])

    def _sources(self, total: int) -> Indices:
        assert self.sources is not None, "there are several sources"
        return self.sources[:total].astype(np.int64)


def ranked(
    scores: npt.NDArray[np.floating],
    sizes: Mapping[str, int],
    weights: Sequence[float] | None,
    seed: int,
    noise: float = 0.0,
) -> RankedOrder:
    """Order a pool by scores.

    Args:
        scores: The score of each example, one source after the other, shape ``(examples,)``.
        sizes: The number of examples of each source.
        weights: The weights of the sources; None for none.
        seed: Determines the noise and the order of examples with equal scores.
        noise: The factor of Gumbel noise, in standard deviations of the scores.
    """
    uniform = draw(len(scores), len(scores), seed).astype(np.uint32)
    keys = np.asarray(scores)[uniform]
    spread = float(np.std(keys, dtype=np.float64)) if noise else 0.0
    if spread:
        for start in range(0, len(keys), _BLOCK):
            block = slice(start, start + _BLOCK)
            keys[block] += np.float32(noise * spread) * gumbel_noise(uniform[block].astype(np.int64), seed)
    ranking = uniform[np.argsort(-keys, kind="stable")]
    if len(sizes) == 1:
        return RankedOrder(sizes, weights, ranking, None)
    ends = np.cumsum(list(sizes.values()))
    sources = np.searchsorted(ends, ranking, side="right").astype(np.uint16)
    starts = (ends - list(sizes.values())).astype(np.uint32)
    return RankedOrder(sizes, weights, ranking - starts[sources], sources)
