"""Of what Lightning says of itself, only the warnings that a user can act on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
