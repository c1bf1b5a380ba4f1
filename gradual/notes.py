"""Lines for the log, about what a user may want to know and need not act on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

_said: set[str] = set()  # in this run


def note(message: str, *values: Any) -> None:
    """Log a line once, however many processes there are."""
    rank_zero_only(log.info)(message, *values)


def note_oddities(path: str | Path, counts: Mapping[str, int]) -> None:
    """Log what is fine but odd in a file, and how often; nothing where nothing is."""
    if counts:
        note("%s is fine but odd: %s.", path, ", ".join(f"{count} {what}" for what, count in counts.items()))


def say_once(level: int, message: str) -> None:
    """Log a line that every stage of a run would repeat, once."""
    if message not in _said:
        _said.add(message)
        rank_zero_only(log.log)(level, "%s", message)


@contextmanager
def saying_anew() -> Iterator[None]:
    """A run begins: what an earlier one in this process has said is said again."""
    _said.clear()
    yield
