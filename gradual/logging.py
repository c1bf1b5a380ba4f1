"""Lines for the log, about what a user may want to know and need not act on."""

from __future__ import annotations

import logging
import warnings
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


_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "httpx")


_LEVELS_OF_NOBODY = (logging.NOTSET, logging.INFO)  # Lightning gives its loggers the second


_WARNINGS = (
    ".*LeafSpec.*is deprecated.*",
    ".*LightningCLI's args parameter is intended.*",
    ".*does not have many workers.*",
    ".*Checkpoint directory.*",
    ".*is smaller than the logging interval.*",
    ".*in eval mode at the start of training.*",  # TrainingModes names them
)


def quieten() -> None:
    """From now on; what a user has set a logger to holds."""
    for logger in map(logging.getLogger, _LOGGERS):
        if logger.level in _LEVELS_OF_NOBODY:
            logger.setLevel(logging.WARNING)
    for pattern in _WARNINGS:
        warnings.filterwarnings("ignore", pattern)


@contextmanager
def quiet() -> Iterator[None]:
    """The same while it is open: a library leaves its user's logging as it was."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        quieten()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
