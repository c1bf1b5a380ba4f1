"""The datasets of an experiment, the ids of their examples, and which training examples are held out by these."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import Dataset

from gradual.checks import check_fields
from gradual.data.arguments import DATASETS
from gradual.data.sources import Pool, sources_of
from gradual.data.subsets import entries_at, positions_of, size_of, texts_of
from gradual.data.text import is_line
from gradual.errors import InputError

log = logging.getLogger(__name__)

IdOf = Callable[[Any], str]
"""Returns the id of an example."""


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
        check_fields(self, "{}", **DATASETS)
        if isinstance(self.out_of_domain, Mapping):
            self.out_of_domain = Pool(self.out_of_domain)


def no_examples() -> dict[str, npt.NDArray[np.int64]]:
    """Return the positions of held-out examples in each training part where there are none."""
    return dict.fromkeys(("in_domain", "out_of_domain"), np.empty(0, dtype=np.int64))


def held_out(domains: Domains, id_of: IdOf | None) -> dict[str, npt.NDArray[np.int64]]:
    """Find the training examples whose id also occurs in the validation or test data, and log their number.

    Args:
        domains: The datasets.
        id_of: Returns the id of an example; None for the ids of the datasets. Positions are not compared.

    Returns:
        The sorted positions of these examples in ``in_domain`` and ``out_of_domain``.
    """
    evaluated: set[str] = set()
    for dataset in (domains.val, domains.test):
        ids = _ids(dataset, id_of)
        evaluated.update(() if ids is None else texts_of(ids))  # arrays have no truth value
    left_out, dropped = no_examples(), {}
    for name in left_out if evaluated else ():
        dataset, found = getattr(domains, name), [np.empty(0, dtype=np.int64)]
        for _, start, part in sources_of(dataset) if dataset is not None else ():
            ids = _ids(part, id_of)
            found += [] if ids is None else [start + positions_of(ids, evaluated)]
        left_out[name] = np.concatenate(found)
        if len(left_out[name]):
            dropped[name.replace("_", "-")] = len(left_out[name])
    if dropped:
        counts = " and ".join(f"{count} {name}" for name, count in dropped.items())
        rank_zero_only(log.warning)(
            "Left out of training because they are in the validation or test data: %s examples.", counts
        )
    return left_out


def ids_at(dataset: Any, positions: npt.NDArray[np.int64], id_of: IdOf | None) -> list[str]:
    """Return the ids of examples: ``id_of`` if given, else the dataset's ``ids``, else the positions.

    Raises:
        InputError: An id is empty or contains a line break: ids are written to a file, one per line.
    """
    if id_of is not None:
        found = [str(id_of(dataset[index])) for index in positions.tolist()]
    elif getattr(dataset, "ids", None) is None:
        return [str(index) for index in positions]
    else:
        found = list(texts_of(entries_at(dataset.ids, positions)))
    for id_ in found:
        if not is_line(id_):
            raise InputError(f"A training example has the id {id_!r:.80}: it must be a single line of text.")
    return found


def _ids(dataset: Dataset[Any] | None, id_of: IdOf | None) -> Iterable[Any] | None:
    if dataset is None:
        return None
    if id_of is not None:
        return (id_of(dataset[index]) for index in range(size_of(dataset)))
    return getattr(dataset, "ids", None)
