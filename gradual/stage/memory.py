"""A stage's memory: free memory is kept from step to step, and what the stage leaves behind is released."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gradual.nn.fast_cpu import keep_memory, limit_shape_caches, malloc_function


@contextmanager
def stage_memory() -> Iterator[None]:
    """Keep free memory for the steps of a stage, and release what the stage has left behind at its end.

    A Trainer and everything it holds (loops, callbacks, the optimizer's state, the module) refer to each other in
    cycles. Python's garbage collector frees these only when it examines the oldest objects, which may not happen in ten
    stages. Objects from before the stage are left out: examining every object of a process takes a quarter of a second.
    """
    limit_shape_caches()
    keep_memory()
    with ExitStack() as at_end:  # runs in reverse order
        at_end.callback(_return_free_memory)
        if not gc.get_freeze_count():  # a program that has frozen its objects wants them to stay frozen
            gc.freeze()
            at_end.callback(gc.unfreeze)
        at_end.callback(gc.collect)
        yield


def _return_free_memory() -> None:
    """Return all free pages to the system, including those between blocks that are still in use."""
    malloc_trim = malloc_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))
