"""The labels of all parts in one order, and those of one part alone: fine where domains differ, or perhaps a typo."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from gradual.data.sources import is_pool

log = logging.getLogger(__name__)


def distinct(column: Any) -> list[Any]:
    """Return the distinct values of a column, or of the lists in it, without None.

    Args:
        column: A ``pyarrow.ChunkedArray``.
    """
    import pyarrow as pa

    values = column
    while pa.types.is_list(values.type):
        values = pa.compute.list_flatten(values)
    return [value for value in values.unique().to_pylist() if value is not None]


def in_order(parts: Iterable[Iterable[Any]]) -> tuple[str, ...]:
    """Return the union of labels as text, numbers by size and text by the alphabet, whatever part has them."""
    union = {label for part in parts for label in part}
    numbers = all(isinstance(label, int) and not isinstance(label, bool) for label in union)
    return tuple(dict.fromkeys(map(str, sorted(union) if numbers else sorted(union, key=str))))


def note_labels(what: str, parts: Mapping[str, Iterable[Any]]) -> None:
    """Log the labels that only the pool has, and warn of those that no training example has.

    Args:
        what: What the labels belong to, such as a column.
        parts: The labels of each part.
    """
    labels = {part: set(map(str, found)) for part, found in parts.items()}
    others = set().union(*(found for part, found in labels.items() if not is_pool(part)))
    pool = set().union(*(found for part, found in labels.items() if is_pool(part)))
    note_pool_labels(what, pool, others)
    training = labels["in_domain"] | pool
    unseen = sorted(others - training)
    if unseen:
        rank_zero_only(log.warning)("%s: no training example has %s.", what, _named(unseen))


def note_pool_labels(what: str, pool: Iterable[str], others: Iterable[str]) -> None:
    """Log the labels that only the pool has; warn if one differs from another only in spelling (``POS`` and ``pos``).

    Args:
        what: What the labels belong to, such as a column.
        pool: The labels of the pool.
        others: The labels of all other data.
    """
    known = sorted(set(map(str, others)))
    alone = sorted(set(map(str, pool)).difference(known))
    if not alone:
        return
    written = {_letters(label): label for label in known}
    twins = [f"'{label}' beside '{written[_letters(label)]}'" for label in alone if _letters(label) in written]
    message = f"{what}: only the pool has {_named(alone)}."
    if twins:
        message += f" Are these the same: {', '.join(twins[:5])}?"
    rank_zero_only(log.log)(logging.WARNING if twins else logging.INFO, "%s", message)


def _named(labels: Sequence[str]) -> str:
    named = ", ".join(f"'{label}'" for label in labels[:5]) + (
        f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    )
    return f"the {'label' if len(labels) == 1 else 'labels'} {named}"


def _letters(label: str) -> str:
    return re.sub(r"[\W_]+", "", label).casefold() or label
