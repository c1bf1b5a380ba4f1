"""How the process takes memory for tensors on a CPU.

A training step takes and gives back the same hundreds of megabytes again and again. What goes back to the system each
time has to be cleared by it, page by page, when it is taken anew: 20 ms for the gradient of 30,000 word vectors, 384
wide. So what was taken is kept, large pieces come in large pages, and what is prepared for shapes that never come again
is not kept.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Read by torch and oneDNN when they first need them. A row is of another length in every step, and in bfloat16 on a CPU
# both keep what they have prepared for the last 1,024 shapes, about a megabyte a shape, unless they are told otherwise.
_VARIABLES = {"LRU_CACHE_CAPACITY": "64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "THP_MEM_ALLOC_ENABLE": "1"}

# mallopt's, with the variables by which a user says otherwise
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_OPTIONS = {
    "MALLOC_TRIM_THRESHOLD_": (_TRIM_THRESHOLD, 256 * 2**20),  # free memory that is kept
    "MALLOC_MMAP_THRESHOLD_": (_MMAP_THRESHOLD, 4 * 2**20),  # larger pieces are taken one by one, in large pages
    "MALLOC_ARENA_MAX": (_ARENA_MAX, 1),  # threads take from one store, not from one each
}


def keep_memory() -> None:
    """Decide it, before the first large tensor; variables of the environment that say otherwise hold."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    for name, (option, number) in _OPTIONS.items():
        if mallopt is not None and name not in os.environ:
            mallopt(option, number)
