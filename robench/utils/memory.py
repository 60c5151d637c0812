"""What stays with the process, so that each pass finds the memory of the one before, and what says that it ran out."""

import ctypes
import re
import sys
from functools import cache

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The names of glibc's settings for its `mallopt`."""

LARGEST = 32 * 2**20
"""Bytes of a block, above which glibc allows none to be kept."""

_SAYS_SO = re.compile(
    r"out of memory|not enough memory|can't allocate memory|cannot allocate memory"
    r"|could not create a (memory|primitive)"
    r"|failed to allocate|unable to allocate|bad_alloc|ALLOC_FAILED",
    re.IGNORECASE,
)
"""What the allocators of torch, oneDNN, cuBLAS, cuDNN, Arrow and C++ write in a RuntimeError of no kind of its own."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device, or was raised because of one that does."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, torch.OutOfMemoryError | MemoryError):  # Arrow's is a MemoryError too
            return True
        if isinstance(error, RuntimeError) and _SAYS_SO.search(str(error)):
            return True
        error = error.__cause__  # type: ignore[assignment]
    return False


@cache
def keep_memory() -> None:
    """Makes the C library keep what tensors give back, up to 2 GiB at the end of its heap.

    By default glibc returns large blocks to the system at once, and each pass of a model waits for the system to clear
    the same memory anew: `python benchmarks/speed/allocation.py` shows the difference. Elsewhere than with glibc
    nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(MMAP_THRESHOLD, LARGEST)
