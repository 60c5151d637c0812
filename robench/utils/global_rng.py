"""Global state that other people's code uses: seeded for it, and put back after it."""

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def reseed(seed: int) -> None:
    """The global random streams of torch, NumPy and Python, seeded anew."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def repeatable_convolutions() -> Iterator[None]:
    """cuDNN's convolutions give the same gradients each time; its other settings stay the caller's."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Global random numbers from a seed, and convolutions whose gradients are the same each time."""
    reseed(seed)
    with repeatable_convolutions():
        yield


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Puts back the global random states of torch, NumPy and Python, the trace function and the warning filters."""
    numpy_state, python_state, trace = np.random.get_state(), random.getstate(), sys.gettrace()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        sys.settrace(trace)
