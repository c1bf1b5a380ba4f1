"""The exception for mistakes of the user, and the hint at the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(Exception):
    """Something that the user provided cannot be used.

    The message is one clear sentence: the file and line (if any), what was found, and what is accepted. The command
    line prints it without a traceback and exits with status 2.
    """


def did_you_mean(name: Any, names: Iterable[str]) -> str:
    """Ask for the nearest of ``names``, as text to append to a sentence; empty where none is near."""
    names, name = list(names), str(name)
    longer = [other for other in names if other.endswith((f"_{name}", f".{name}"))]
    near = longer[0] if longer else nearest(name, names)
    return f" Did you mean '{near}'?" if near is not None else ""


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the name that needs the fewest edits of those similar to ``name``, or None where none is similar.

    Args:
        name: A name that was not found.
        names: The names that exist.
        cutoff: Least similarity, from 0 (any name) to 1 (the same name).
    """
    names = list(names)
    similar = difflib.get_close_matches(name, names, n=len(names) or 1, cutoff=cutoff)  # the most similar first
    # of two that are one edit away, such as mode and model for modle, the one with as many letters
    return min(similar, key=lambda other: (_edits(name, other), abs(len(name) - len(other))), default=None)


def _edits(one: str, other: str) -> int:
    """The fewest insertions, deletions, substitutions and swaps of neighbours that make ``other`` of ``one``."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        before, above, row = row, before, [i + 1]
        for j, wanted in enumerate(other):
            fewest = min(before[j] + (letter != wanted), before[j + 1] + 1, row[j] + 1)
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                fewest = min(fewest, above[j - 1] + 1)
            row.append(fewest)
    return row[-1]
