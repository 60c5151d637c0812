"""Memory that stays with the process, so that each pass finds that of the one before."""

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The names of glibc's settings for its `mallopt`."""

LARGEST = 32 * 2**20
"""Bytes of a block, above which glibc allows none to be kept."""


@cache
def keep_memory() -> None:
    """Has the C library keep what tensors give back, up to 2 GiB at the end of its heap.

    By default glibc returns large blocks to the system at once, and each pass of a model waits for the system to clear
    the same memory anew: `python benchmarks/speed/allocation.py` shows the difference. Elsewhere than with glibc
    nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(MMAP_THRESHOLD, LARGEST)
