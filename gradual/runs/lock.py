"""One process at a time in a run directory."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gradual.errors import InputError

log = logging.getLogger(__name__)

# set to more than 0 in the processes of a distributed run that another one leads
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
_held: set[Path] = set()


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """While it is open, no other process may use the run directory ``root``.

    The lock is the kernel's, on ``root/.lock``, also across the machines of a network file system: it ends with the
    process that holds it, however that ends. The first process of a distributed run holds it for all; workers of a
    comparison do not ask for it.

    Raises:
        InputError: Another process has it, or nothing can be written to ``root``.
    """
    key = root.resolve()
    if key in _held or is_follower_rank():
        yield
        return
    # never open this file again in this process: the kernel drops the lock when any of its descriptors is closed
    path = key / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(f"The run directory {root} cannot be written to: {error.strerror}.") from error
    try:
        _acquire(descriptor, root)
        _held.add(key)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        _held.discard(key)
        os.close(descriptor)


def is_follower_rank() -> bool:
    """Whether another process of a distributed run leads this one; known before there is a process group."""
    return any(os.environ.get(name, "0") != "0" for name in _RANKS)


def _acquire(descriptor: int, root: Path) -> None:
    try:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # not a POSIX system
        return
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            log.warning("%s cannot be locked (%s): see to it that no other process uses it.", root, error.strerror)
            return
        raise InputError(
            f"{root} is in use{_holder(descriptor)}: wait until it is done, or choose another run_dir."
        ) from None
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.read(descriptor, 1000))
        return f" by process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError, OSError):  # it may be writing just now
        return " by another process"
