"""Attacks of other libraries: the model as they may call it, and the global state they must leave alone."""

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from robench.classifier import Classifier


class LibraryModel(nn.Module):
    """Logits of the classifier, every image counted forwards and backwards; without gradients if so declared."""

    def __init__(self, classifier: Classifier, *, differentiable: bool) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is no submodule
        self._differentiable = differentiable

    def forward(self, x: Tensor) -> Tensor:
        (classifier,) = self._classifier
        if not self._differentiable:
            with torch.no_grad():
                return classifier.logits(x)
        logits = classifier.logits(x)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count(len(x)))  # type: ignore[no-untyped-call]
        return logits

    def _count(self, images: int) -> None:
        self._classifier[0].backwards += images


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Torch's global random numbers from a seed, and convolutions whose gradients are the same each time."""
    torch.manual_seed(seed)
    with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
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
