"""Locks on files, for what only one process at a time may do.

The lock is the kernel's (POSIX record locks), because it ends with the process that holds it, however that ends, works
across the machines of a network file system, is not inherited by worker processes, and leaves room in its file for the
holder's name. Where the system has no such locks, nothing is locked.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from gradual.distributed import is_follower_rank
from gradual.errors import InputError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

_held: set[Path] = set()  # run directories that this process holds
_threads: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)  # kernel locks do not exclude other threads


class Held(Exception):
    """Another process or thread holds a lock; the message is its name, such as ``process 123 on host since ...``."""


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Reserve the run directory ``root`` for this process, by a lock on ``root/.lock``.

    The first process of a distributed run holds it for all; workers of a comparison do not ask for it.

    Raises:
        InputError: Another process holds it, or ``root`` is not writable.
    """
    root_path = root.resolve()
    if root_path in _held or is_follower_rank():
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(root_path / ".lock"))
        except Held as held:
            raise InputError(f"{root} is in use by {held}: wait until it is done, or choose another run_dir.") from None
        except OSError as error:
            raise InputError(f"The run directory {root} cannot be written to: {error.strerror}.") from error
        _held.add(root_path)
        stack.callback(_held.discard, root_path)
        yield


@contextmanager
def lock(path: Path, before_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: The lock's file, which is created where it is missing and stays.
        before_waiting: Called where another process or thread holds the lock, which is then waited for; None to raise
            ``Held`` instead.

    Raises:
        Held: Another process or thread holds the lock.
        OSError: The file cannot be written.
    """
    thread = _threads[path.resolve()]
    if not thread.acquire(blocking=False):
        if before_waiting is None:
            raise Held("another thread of this process")
        before_waiting()
        thread.acquire()
    try:
        # this process must not open the file anywhere else: closing any of its descriptors ends the lock
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _acquire(descriptor, path, before_waiting)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
    finally:
        thread.release()


def _acquire(descriptor: int, path: Path, before_waiting: Callable[[], None] | None) -> None:
    if fcntl is None:
        return
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if before_waiting is None:
                raise Held(_holder(descriptor)) from None
            before_waiting()
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s cannot be locked (%s): make sure that no other process uses it.", path, error.strerror)
        return
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.read(descriptor, 1000))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError, OSError):  # it may be writing its name just now
        return "another process"
