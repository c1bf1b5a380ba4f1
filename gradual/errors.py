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
    """Return the most similar of ``names``, or None where none is similar enough.

    Args:
        name: A name that was not found.
        names: The names that exist.
        cutoff: Least similarity, from 0 (any name) to 1 (the same name).
    """
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=cutoff)), None)
