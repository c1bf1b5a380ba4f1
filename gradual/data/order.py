"""The order of the pool, of which each stage's sample is a prefix.

Algorithm 1 draws every stage's sample uniformly from the stage before. A uniform sample of a uniform sample is a
uniform sample, so one random order of the pool, fixed by the seed, gives all of them: stage ``k`` keeps the first
``amount_k``. The order is a keyed permutation that is computed only for the requested positions, so that time and
memory depend on the size of the sample and not on that of the pool.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from gradual.errors import InputError

_ROUNDS = 8
_LEAST_HALF_BITS = 5  # below that, a Feistel network's few round functions would not mix small pools well
_BLOCK = 1 << 16  # positions computed at once, so that what a round writes fits a core's cache


def draw(pool_size: int, amount: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw the first ``amount`` indices of the pool's random order.

    Args:
        pool_size: Number of examples in the pool.
        amount: Number of indices to draw, without replacement.
        seed: Determines the order, which is the same on every machine.

    Returns:
        Distinct indices in ``[0, pool_size)``, shape ``(amount,)``. With a smaller amount they are a prefix of these.

    Raises:
        InputError: ``amount`` is negative or exceeds the size of the pool.
    """
    if not 0 <= amount <= pool_size:
        raise InputError(f"{amount} examples cannot be drawn from a pool of {pool_size}.")
    half_bits = max(_LEAST_HALF_BITS, (max(pool_size - 1, 1).bit_length() + 1) // 2)
    keys = _round_keys(seed)
    drawn = np.empty(amount, dtype=np.int64)
    for start in range(0, amount, _BLOCK):
        block = _feistel(np.arange(start, min(start + _BLOCK, amount), dtype=np.uint64), half_bits, keys)
        outside = np.flatnonzero(block >= pool_size)
        while outside.size:  # follow the cycle until it is back inside the pool, which is still one-to-one
            walked = _feistel(block[outside], half_bits, keys)
            block[outside] = walked
            outside = outside[walked >= pool_size]
        drawn[start : start + _BLOCK] = block
    return drawn


def scrambled(values: npt.NDArray[np.uint64], key: str) -> npt.NDArray[np.uint64]:
    """Map numbers to numbers that look random, one to one; another key gives another map."""
    return _mix(values ^ _round_keys(key)[0])


def gumbel_noise(positions: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float32]:
    """Draw a number from the standard Gumbel distribution for each position, whichever others there are."""
    bits = scrambled(positions.astype(np.uint64), f"noise {seed}") >> np.uint64(11)
    uniform = (bits.astype(np.float64) + 0.5) / 2.0**53
    return (-np.log(-np.log(uniform))).astype(np.float32)


def derive_seed(*parts: object) -> int:
    """Derive a separate 32-bit seed for what ``parts`` name, such as a stage's from the experiment's."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _round_keys(seed: int | str) -> list[np.uint64]:
    digest = hashlib.sha512(f"gradual pool order {seed}".encode()).digest()
    return [np.uint64(int.from_bytes(digest[8 * i : 8 * i + 8], "little")) for i in range(_ROUNDS)]


def _feistel(values: npt.NDArray[np.uint64], half_bits: int, keys: list[np.uint64]) -> npt.NDArray[np.uint64]:
    """Permute ``[0, 4 ** half_bits)``; a Feistel network is one-to-one for any round function."""
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele et al., 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
