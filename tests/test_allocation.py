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
    for _ in range(count):
        torch.ones(4, 2**20).add(1).mul(2)  # 16 MiB each
passes(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_a_pass_finds_the_memory_of_the_one_before() -> None:
    def faults(kept: bool) -> int:
        code = [sys.executable, "-c", FAULTS.format(kept=kept)]
        return int(subprocess.run(code, check=True, capture_output=True, text=True).stdout)

    assert faults(kept=True) < faults(kept=False) / 10
