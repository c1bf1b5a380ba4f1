"""The relevance of a data module's pool: its training examples as corpora, and the scores of those that are kept."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gradual.data.domains import Domains
from gradual.data.relevance.scores import Scorer
from gradual.data.relevance.settings import Order
from gradual.data.relevance.tokens import Corpus, JoinedCorpus
from gradual.data.sources import part_of, sources_of
from gradual.data.subsets import size_of
from gradual.errors import InputError


class PooledData(Protocol):
    """What is needed of a data module to score its pool."""

    text_of: Any

    @property
    def domains(self) -> Domains:
        """The datasets."""

    def left_out(self, part: str) -> npt.NDArray[np.int64]:
        """The examples of a part that no stage trains on."""

    def scoring_tokenizer(self) -> Any:
        """What makes tokens of an example; None for words."""

    def cache_folder(self) -> Any:
        """Where scores are kept."""

    def column_of_pool(self, part: str, dataset: Any, column: str) -> Any:
        """The values of a column; None if there is no such column."""


def corpora(data: PooledData) -> tuple[Corpus, dict[str, Corpus]]:
    """Return the in-domain training examples and each source of the pool, called ``""`` in a pool without names.

    Nothing else of the data is read.

    Raises:
        InputError: There is no pool, or examples have no text.
    """
    domains, tokenizer = data.domains, data.scoring_tokenizer()
    if domains.out_of_domain is None:
        raise InputError("There is no pool to order: set out_of_domain.")
    left_out = data.left_out("out_of_domain")
    sources = {}
    for name, start, part in sources_of(domains.out_of_domain):
        inside = left_out[slice(*np.searchsorted(left_out, (start, start + size_of(part))))] - start
        sources[name or ""] = Corpus(part, inside, data.text_of, tokenizer, part_of(name))
    own = Corpus(domains.in_domain, data.left_out("in_domain"), data.text_of, tokenizer, "in_domain")
    return own, sources


def scorer(data: PooledData, order: Order) -> Scorer:
    """Return what scores the pool of a data module."""
    name = "" if data.text_of is not None else str(getattr(data, "tokenizer", None) or "")
    trusted = bool(getattr(data, "trust_remote_code", False))
    return Scorer(order, data.cache_folder(), name, getattr(data, "num_proc", None), trusted)


def pool_scores(data: PooledData, order: Order) -> npt.NDArray[np.floating]:
    """Return the score of each example of the pool that is kept, one source after the other.

    Raises:
        InputError: The scores cannot be computed, or the column of scores does not hold numbers.
    """
    if order.by == "column":
        parts = sources_of(data.domains.out_of_domain)
        scores = np.concatenate([_column(data, part_of(name), part, str(order.column)) for name, _, part in parts])
    else:
        in_domain, sources = corpora(data)
        scores = scorer(data, order).scores(in_domain, JoinedCorpus(list(sources.values())))
    left_out = data.left_out("out_of_domain")
    return np.delete(scores, left_out) if len(left_out) else scores


def _column(data: PooledData, part: str, dataset: Any, column: str) -> npt.NDArray[np.float64]:
    values = data.column_of_pool(part, dataset, column)
    if values is None:
        raise InputError(f"{part} has no column '{column}', by which order.column says to order it.")
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.full(1, np.nan)
    if found.shape != (size_of(dataset),) or np.isnan(found).any():
        raise InputError(f"{part}: the column '{column}' must hold a number for each example, to order them by it.")
    return found
