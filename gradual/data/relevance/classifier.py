"""A classifier that tells in-domain data from the pool: scores of the pool, and the distance of a source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradual.data.order import draw
from gradual.data.relevance.ngrams import hashed_ngrams
from gradual.data.relevance.parallel import Progress, map_chunks
from gradual.data.relevance.tokens import Corpus, Ints, Tokens
from gradual.data.subsets import skipping
from gradual.errors import InputError

FOLDS = 5
"""The parts into which in-domain data and pool are divided; a part is scored by a model that was trained on others."""
LEARNED_FROM = 50_000
"""The most examples of each side that a model is trained on."""

_BUCKETS = 1 << 18
_STRENGTH = 10.0  # the inverse of the regularization of weights, for rows of length 1


def classifier_scores(
    in_domain: Corpus, pool: Corpus, out: npt.NDArray[np.float32], processes: int, progress: Progress
) -> None:
    """Score the examples of a pool by the log-odds of being in-domain, cross-fitted.

    Args:
        in_domain: The in-domain training data.
        pool: The pool.
        out: Where the scores go, shape ``(examples,)``.
        processes: The number of threads.
        progress: Told of each example that is done.

    Raises:
        InputError: There are fewer than two examples on one side, or scikit-learn is missing.
    """
    ours, theirs = _Side(in_domain, "in-domain examples"), _Side(pool, "out-of-domain examples")
    folds = min(FOLDS, len(ours.positions), len(theirs.positions))
    models = [_trained(ours, theirs, fold, folds) for fold in range(folds)]

    def score(start: int, stop: int) -> None:
        matrix = features(pool.read(start, stop))
        for fold, model in enumerate(models):
            rows = np.flatnonzero(_fold(pool, np.arange(start, stop), folds) == fold)
            if len(rows):
                out[start + rows] = model.decision_function(matrix[rows])

    map_chunks(score, pool.chunks(), processes, progress)


@dataclass(frozen=True)
class Distance:
    """How far a source is from the target domain: the proxy A-distance (Ben-David et al., 2007).

    Attributes:
        value: ``2 (1 - 2 error)``, of the error with which a classifier tells the two apart on examples that it was not
            trained on, both counting equally: 0 if it can only guess, 2 if it never errs.
        error: The standard error of the value, over these examples.
    """

    value: float
    error: float


def distance(in_domain: Corpus, source: Corpus) -> Distance:
    """Measure how far a source is from the in-domain training data, by cross-validation.

    Raises:
        InputError: There are fewer than two examples on one side, or scikit-learn is missing.
    """
    ours, theirs = _Side(in_domain, "in-domain examples"), _Side(source, "examples of a source")
    folds = min(FOLDS, len(ours.positions), len(theirs.positions))
    wrong: tuple[list[Any], list[Any]] = ([], [])
    for fold in range(folds):
        model = _trained(ours, theirs, fold, folds)
        for label, side in ((1, ours), (0, theirs)):
            held_out = side.matrix[side.folds(folds) == fold]
            if held_out.shape[0]:
                wrong[label].append((model.decision_function(held_out) > 0) != label)
    errors = [np.concatenate(each) for each in wrong]
    rates = [float(each.mean()) for each in errors]
    variance = sum(rate * (1 - rate) / len(each) for rate, each in zip(rates, errors))
    return Distance(2 * (1 - sum(rates)), 2 * math.sqrt(variance))


def features(tokens: Tokens) -> Any:
    """Count the hashed n-grams of examples: a sparse matrix whose rows have length 1."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    example, values = hashed_ngrams(tokens, _BUCKETS)
    ones = np.ones(len(values), dtype=np.float32)
    counts = csr_matrix((ones, (example, values)), shape=(len(tokens), _BUCKETS))
    counts.sum_duplicates()
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(1)).ravel())
    counts.data /= np.repeat(np.maximum(norms, 1e-12), np.diff(counts.indptr))
    return counts


class _Side:
    """A sample of the examples of one side, without those that are left out.

    Attributes:
        positions: Their positions, sorted.
        matrix: Their features.
    """

    def __init__(self, corpus: Corpus, what: str):
        self.corpus, size = corpus, len(corpus) - len(corpus.left_out)
        if size < 2:
            raise InputError(f"A classifier of relevance needs at least 2 {what}, but there are {size}.")
        self.positions: Ints = np.sort(skipping(corpus.left_out, draw(size, min(size, LEARNED_FROM), seed=0)))
        self.matrix = features(corpus.at(self.positions.tolist()))

    def folds(self, folds: int) -> Ints:
        """The part that each example belongs to."""
        return _fold(self.corpus, self.positions, folds)


def _fold(corpus: Corpus, positions: Ints, folds: int) -> Ints:
    """The part that examples at these positions belong to; no part is empty."""
    return (positions - np.searchsorted(corpus.left_out, positions)) % folds


def _trained(ours: _Side, theirs: _Side, fold: int, folds: int) -> Any:
    """A model trained on all parts but one."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise InputError(
            "A classifier of relevance needs the package scikit-learn: pip install 'gradual[relevance]'."
        ) from None
    from scipy.sparse import vstack

    sides: Sequence[tuple[int, _Side]] = ((1, ours), (0, theirs))
    rows = [side.matrix[side.folds(folds) != fold] for _, side in sides]
    labels = np.repeat([label for label, _ in sides], [part.shape[0] for part in rows])
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1000)
    return model.fit(vstack(rows), labels)
