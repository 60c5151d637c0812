"""The machine and the software that timings come from, in words."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch


def in_words(libraries: Sequence[str] = ()) -> str:
    """One line, without names of hosts, users or folders: processor, threads in use, memory, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"{name} {version(name)}" for name in ("torch", "robench", *libraries)]
    return ", ".join(
        [
            _processor(),
            f"{torch.get_num_threads()} of {os.cpu_count()} cores",
            f"{memory:.0f} GiB",
            f"Python {platform.python_version()}",
            *versions,
        ]
    )


def _processor() -> str:
    """Its name, what torch uses of its vector instructions, and those it has for bfloat16."""
    described = _cpuinfo()
    name = described.get("model name") or platform.processor() or platform.machine()
    narrow = [flag for flag in described.get("flags", "").split() if flag.endswith("bf16")]
    instructions = [torch.backends.cpu.get_cpu_capability(), *narrow]
    return f"{name} ({' '.join(instructions)})"


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core; nothing elsewhere."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return {}
    lines = (line.partition(":") for line in file.read_text().split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
