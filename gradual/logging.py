"""Logging: lines from one process only or once per run, and less noise from libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

_said: set[str] = set()  # lines that this run has logged already


def to_standard_error() -> None:
    """Write our log messages to standard error as they are, and few of Lightning's."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("gradual").setLevel(logging.INFO)
    quieten()


def note(message: str, *values: Any) -> None:
    """Log a line that users may want to know about but need not act on, from the first process only."""
    rank_zero_only(log.info)(message, *values)


def note_oddities(path: str | Path, counts: Mapping[str, int]) -> None:
    """Log what is odd, though not wrong, in a file, and how often; log nothing where ``counts`` is empty."""
    if counts:
        note("%s is fine but odd: %s.", path, ", ".join(f"{count} {what}" for what, count in counts.items()))


def say_once(level: int, message: str) -> None:
    """Log a line that every stage of a run would repeat, but only the first time."""
    if message not in _said:
        _said.add(message)
        rank_zero_only(log.log)(level, "%s", message)


@contextmanager
def saying_anew() -> Iterator[None]:
    """Start a run: lines that an earlier run in this process logged with ``say_once`` are logged again."""
    _said.clear()
    yield


_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "httpx")
_DEFAULT_LEVELS = (logging.NOTSET, logging.INFO)  # Lightning sets the second itself
_WARNINGS = (
    ".*LeafSpec.*is deprecated.*",
    ".*LightningCLI's args parameter is intended.*",
    ".*does not have many workers.*",
    ".*Checkpoint directory.*",
    ".*is smaller than the logging interval.*",
    ".*`is_gradient_checkpointing` is deprecated.*",  # which peft uses
    ".*in eval mode at the start of training.*",  # TrainingModes names them
)


def quieten() -> None:
    """Silence what libraries log and warn about without need; a level that the user has set is left alone."""
    for logger in map(logging.getLogger, _LOGGERS):
        if logger.level in _DEFAULT_LEVELS:
            logger.setLevel(logging.WARNING)
    for pattern in _WARNINGS:
        warnings.filterwarnings("ignore", pattern)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence libraries as ``quieten`` does, and restore the user's logging at the end."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        quieten()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
