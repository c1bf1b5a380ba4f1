"""Memory between training steps and between stages: a step's is kept for the next step, a stage's is given back."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt


@contextmanager
def stage_memory() -> Iterator[None]:
    """While it is open, free memory is kept; at its end what the stage has left behind is released.

    A Trainer and all that it holds (loops, callbacks, the optimizer's state, the module) refer to each other in cycles.
    Python's garbage collector frees these only when it looks at the oldest objects, which it may not do in ten stages.
    Since a look at every object of a process takes a quarter of a second, objects from before the stage are left out.
    """
    keep_memory()
    with ExitStack() as at_end:  # the last one first
        at_end.callback(_return_free_memory)
        if not gc.get_freeze_count():  # a program that has frozen its objects wants them to stay so
            gc.freeze()
            at_end.callback(gc.unfreeze)
        at_end.callback(gc.collect)
        yield


def keep_memory() -> None:
    """Tell Linux's C library to keep up to 512 MB of free memory, in one piece from which all else is taken.

    A step on a CPU takes and gives back the same hundreds of megabytes again and again, and what goes back to the
    system is cleared by it, page by page, when it is taken anew: 20 ms for the gradient of 30,000 word vectors, 384
    wide. Where the environment itself says what is kept (``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES``), that holds.
    """
    mallopt = _from_c_library("mallopt")
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 512 * 2**20)
        mallopt(_MMAP_MAX, 0)


def _return_free_memory() -> None:
    """Return all free pages to the system, including those between pieces that are still in use."""
    malloc_trim = _from_c_library("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _from_c_library(name: str) -> Any:
    """A function of Linux's C library that manages free memory.

    None where the environment says how free memory is managed, and with other C libraries, which lack such functions.
    """
    said = any(variable.startswith(("MALLOC_TRIM_", "MALLOC_MMAP_")) for variable in os.environ)
    if sys.platform != "linux" or said or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    return getattr(ctypes.CDLL(None), name, None)
