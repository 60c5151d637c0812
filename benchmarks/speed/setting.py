"""What everybody attacks: a model, images that it classifies correctly, and a radius."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from robench.data.datasets import Split
from robench.evaluation.target import Subject
from robench.utils.errors import UserError
from robench.utils.sizes import parse_size

STEP_SIZE = "eps/4"
"""Of every attack that takes steps, in every library; it is robench's default."""

BATCH = 100


@dataclass(frozen=True)
class Setting:
    """The first `n` images of `split`, all of which the subject classifies correctly; `file` holds the same as an .npz
    that robench reads. The threat is l-infinity."""

    dataset: str
    subject: Subject
    split: Split
    file: Path
    eps_written: str
    n: int

    @classmethod
    def of(cls, dataset: str, subject: Subject, split: Split, eps: str, n: int, folder: Path) -> Self:
        """The first `n` of `split` that the subject has right."""
        chosen = split.take(_right(subject.model, split, n))
        file = folder / f"{dataset}.npz"
        np.savez(file, x_test=chosen.images.numpy(), y_test=chosen.labels.numpy())
        return cls(dataset, subject, chosen, file, eps, n)

    def within(self, eps: str) -> Self:
        return replace(self, eps_written=eps)

    def first(self, n: int) -> Self:
        return replace(self, n=min(n, self.n))

    @property
    def eps(self) -> float:
        return parse_size(self.eps_written)

    @property
    def step_size(self) -> float:
        return parse_size(STEP_SIZE, self.eps)

    @cached_property
    def x(self) -> Tensor:
        return self.split.floats(slice(self.n))

    @cached_property
    def y(self) -> Tensor:
        return self.split.labels[: self.n]

    @cached_property
    def model(self) -> nn.Module:
        """As it was loaded, in evaluation mode and frozen."""
        return copy.deepcopy(self.subject.model).eval().requires_grad_(False)

    def __str__(self) -> str:
        return f"{self.dataset}, {self.subject.arch}, linf {self.eps_written}, {self.n} images"


@torch.no_grad()
def _right(model: nn.Module, split: Split, n: int) -> Sequence[int]:
    """The rows of the first `n` images that the model classifies correctly."""
    rows: list[int] = []
    for start in range(0, len(split), BATCH):
        part = slice(start, start + BATCH)
        correct = model(split.floats(part)).argmax(1) == split.labels[part]
        rows += (correct.nonzero().squeeze(1) + start).tolist()
        if len(rows) >= n:
            return rows[:n]
    raise UserError(f"expected {n} images of {split.name} that the model classifies correctly, found {len(rows)}")
