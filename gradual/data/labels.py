"""Labels that occur only in the pool, which is fine where the domains differ, and otherwise perhaps a typo."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


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
    named = ", ".join(f"'{label}'" for label in alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
    message = f"{what}: only the pool has the {'label' if len(alone) == 1 else 'labels'} {named}."
    if twins:
        message += f" Are these the same: {', '.join(twins[:5])}?"
    rank_zero_only(log.log)(logging.WARNING if twins else logging.INFO, "%s", message)


def _letters(label: str) -> str:
    return re.sub(r"[\W_]+", "", label).casefold() or label
