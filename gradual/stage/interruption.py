"""Ctrl-C and SIGTERM: a stage in training is saved first, anything else stops at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """The run was told to stop; no ``Exception``, so that it passes through all that handles errors.

    Args:
        number: The signal.
        saved: What was saved on the way out; empty where nothing new was to be saved.
    """

    def __init__(self, number: int, saved: str = ""):
        super().__init__(number)
        self.number, self.saved = number, saved


class _Signals:
    """What the process was told, and whether it is a moment to act on it; signals know no other scope."""

    active = False
    deferred = False
    requested: int | None = None
    process = 0


@contextmanager
def interruptible() -> Iterator[None]:
    """While it is open, SIGINT and SIGTERM end the run as this module says.

    Raises:
        KeyboardInterrupt: After SIGINT.
        SystemExit: With status 143, after SIGTERM.
    """
    if _Signals.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Signals.active, _Signals.deferred, _Signals.requested = True, False, None
    _Signals.process = os.getpid()
    before: dict[int, Any] = {}
    try:
        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
        yield
    except Interrupted as stop:
        rank_zero_only(log.warning)(f"Stopped. {stop.saved}The same command goes on from here.")
        if stop.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + stop.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Signals.active = False


def handle(number: int, frame: FrameType | None) -> None:
    """The handler: note the signal where training will look for it, else stop here.

    A second Ctrl-C does not wait any longer. A second SIGTERM changes nothing: whoever ends several processes may well
    send it twice.
    """
    if os.getpid() != _Signals.process:  # forked, to load data: it ends with its parent
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    again = _Signals.requested == number == signal.SIGINT
    _Signals.requested = _Signals.requested or number
    if again or not _Signals.deferred:
        raise Interrupted(number)


def defer(deferred: bool) -> None:
    """Begin or end a time in which signals are only noted, because someone looks for ``requested``."""
    _Signals.deferred = deferred
    if deferred and _Signals.active:  # a Trainer puts its own handler in place, which would stop between two batches
        signal.signal(signal.SIGTERM, handle)


def is_active() -> bool:
    """Whether signals are handled as this module says."""
    return _Signals.active


def requested() -> int | None:
    """The signal that the run was told to stop with."""
    return _Signals.requested
