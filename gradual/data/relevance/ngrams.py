"""Hashed n-grams of tokens, and importance weights of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradual.data.order import scrambled
from gradual.data.relevance.parallel import Progress, map_chunks
from gradual.data.relevance.tokens import Corpus, Ints, Tokens

BUCKETS = 10_000
"""The number of hashed n-grams that importance weights tell apart, as in Xie et al. (2023)."""

Floats = npt.NDArray[np.float64]


def hashed_ngrams(tokens: Tokens, buckets: int) -> tuple[Ints, Ints]:
    """Hash all unigrams and bigrams of examples.

    Args:
        tokens: The tokens of the examples.
        buckets: The number of hash values.

    Returns:
        The example of each n-gram, an index, and its hash value, shape ``(n-grams,)`` each.
    """
    example = tokens.example
    one = scrambled(tokens.ids.astype(np.uint64), "unigram")
    inside = example[1:] == example[:-1]
    first, second = one[:-1][inside], one[1:][inside]
    two = scrambled(first + np.uint64(3) * second, "bigram")  # overflows, as a hash may
    values = np.concatenate([one, two]) % np.uint64(buckets)
    return np.concatenate([example, example[1:][inside]]), values.astype(np.int64)


def importance_scores(
    in_domain: Corpus, pool: Corpus, out: npt.NDArray[np.float32], processes: int, progress: Progress
) -> None:
    """Score the examples of a pool by importance weights of their hashed n-grams (Xie et al., 2023).

    The weight of an n-gram is its probability in the in-domain data over that in the pool, both with add-one smoothing.
    The score of an example is the mean log weight of its n-grams: sums, as in the paper, whose examples are equally
    long, would favour short examples, since most n-grams of a pool are rarer in the target domain.

    Args:
        in_domain: The in-domain training data.
        pool: The pool.
        out: Where the scores go, shape ``(examples,)``.
        processes: The number of threads.
        progress: Told of each example that is done; the pool is read twice.
    """
    weights = log_weights(_counts(in_domain, processes, None), _counts(pool, processes, progress))

    def score(start: int, stop: int) -> None:
        tokens = pool.read(start, stop)
        example, values = hashed_ngrams(tokens, BUCKETS)
        numbers = np.bincount(example, minlength=len(tokens))
        out[start:stop] = np.bincount(example, weights[values], minlength=len(tokens)) / np.maximum(numbers, 1)

    map_chunks(score, pool.chunks(), processes, progress)


def log_weights(target: Ints, pool: Ints) -> Floats:
    """Return the log importance weight of each hashed n-gram, from its numbers in the two; same shape."""
    smoothed = (np.log((counts + 1) / (counts.sum() + len(counts))) for counts in (target, pool))
    return next(smoothed) - next(smoothed)


def _counts(corpus: Corpus, processes: int, progress: Progress | None) -> Ints:
    """The number of each hashed n-gram in the examples that are not left out."""

    def count(start: int, stop: int) -> Ints:
        example, values = hashed_ngrams(corpus.read(start, stop), BUCKETS)
        return np.bincount(values[corpus.kept(start, stop)[example]], minlength=BUCKETS)

    total = np.zeros(BUCKETS, dtype=np.int64)
    map_chunks(count, corpus.chunks(), processes, progress, lambda counts: np.add(total, counts, out=total))
    return total
