"""Memory that passes give back stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes
import resource
from robench.utils.memory import keep_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
if {kept}:
    keep_memory()
def passes(count):
    for _ in range(count):
        blocks = [libc.malloc(mebibytes << 20) for mebibytes in (16, 28, 8, 24, 4)]
        for block, mebibytes in zip(blocks, (16, 28, 8, 24, 4)):
            libc.memset(block, 1, mebibytes << 20)
        for block in blocks:
            libc.free(block)
passes(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_a_pass_finds_the_memory_of_the_one_before() -> None:
    """The system need not clear any for it: of the 20,480 pages of a pass nearly none is new."""

    def faults(kept: bool) -> int:
        code = [sys.executable, "-c", FAULTS.format(kept=kept)]
        return int(subprocess.run(code, check=True, capture_output=True, text=True).stdout)

    assert faults(kept=True) < 100
    assert faults(kept=False) > 10_000
