"""Handling of Ctrl-C and SIGTERM: a stage in training is saved first, everything else stops at once."""

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
    """The run has been told to stop. It is not an ``Exception``, so that nothing handles it as an error.

    Args:
        number: The signal.
        saved: A sentence about what was saved before stopping; empty if nothing was.
    """

    def __init__(self, number: int, saved: str = ""):
        super().__init__(number)
        self.number, self.saved = number, saved


class _Signals:
    """The signal received, and whether to act on it now; global like the signal handlers of a process."""

    active = False
    deferred = False
    requested: int | None = None
    process = 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle SIGINT and SIGTERM as this module describes while the context is open.

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
        rank_zero_only(log.warning)(f"Stopped. {stop.saved}Run the same command again to resume.")
        if stop.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + stop.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Signals.active = False


def handle(number: int, frame: FrameType | None) -> None:
    """Handle a signal: record it if training will check for it, and stop at once otherwise.

    A second Ctrl-C stops at once in any case. A second SIGTERM changes nothing, since launchers that end several
    processes may send it twice.
    """
    if os.getpid() != _Signals.process:  # a forked data-loading worker, which ends with its parent
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    again = _Signals.requested == number == signal.SIGINT
    _Signals.requested = _Signals.requested or number
    if again or not _Signals.deferred:
        raise Interrupted(number)


def defer(deferred: bool) -> None:
    """Start or stop only recording signals, for a caller that checks ``requested``."""
    _Signals.deferred = deferred
    if deferred and _Signals.active:  # the Trainer's own handler would stop between two batches
        signal.signal(signal.SIGTERM, handle)


def is_active() -> bool:
    """Whether signals are handled as this module describes."""
    return _Signals.active


def requested() -> int | None:
    """The signal that the run has been told to stop with, if any."""
    return _Signals.requested
