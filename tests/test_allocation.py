"""Memory that passes give back stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from robench.allocation import keep_memory

torch.set_num_threads(1)
if {kept}:
    keep_memory()
def passes(count):
    for mebibytes in (16, 28, 8, 24, 4) * count:
        torch.ones(mebibytes, 2**18).add(1).mul(2)
passes(10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_a_pass_finds_the_memory_of_the_one_before() -> None:
    """The system need not clear any for it."""

    def faults(kept: bool) -> int:
        code = [sys.executable, "-c", FAULTS.format(kept=kept)]
        return int(subprocess.run(code, check=True, capture_output=True, text=True).stdout)

    assert faults(kept=True) < faults(kept=False) / 5
