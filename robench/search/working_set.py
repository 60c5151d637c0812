"""Per-example tensors of a run, kept aligned as examples leave it."""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from robench.search.judge import Verdicts
from robench.search.rng import Draws
from robench.threat import per_example
from robench.utils.errors import AttackError


class State:
    """Tensors [B, ...], one row for each active example."""

    def __init__(self, **tensors: Tensor) -> None:
        self.__dict__.update(tensors)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...
        def __setattr__(self, name: str, value: Tensor) -> None: ...


def narrow(state: State, index: Tensor) -> None:
    """Keeps these rows [n] of a state, in this order. Raises AttackError where it holds anything but tensors."""
    for name, value in vars(state).items():
        if not isinstance(value, Tensor | Draws | Verdicts):
            given = f"{name}, a {type(value).__name__}"
            raise AttackError(f"expected tensors with a row for each example in a state, got {given}")
        vars(state)[name] = value[index] if isinstance(value, Tensor) else value.take(index)


class WorkingSet(State):
    """The active examples of a run, and the best candidate of each."""

    rows: Tensor
    """[B]: their rows in the outcome"""
    x: Tensor
    y: Tensor
    draws: Draws
    candidate: Tensor
    """[B, ...]: the valid one of largest margin; where there is none, a copy of x, or one that the judge refused"""
    margin: Tensor
    """[B]: of the candidate; -inf where there is none"""
    step: Tensor
    """[B]: steps taken before it was made"""
    pending: Tensor
    """[B]: it fooled the search, and is not verified"""
    unseen: Tensor
    """[B]: the judge has not seen it"""
    verdicts: Verdicts
    """on the candidates that are not `unseen`"""
    last: Tensor
    """[B, ...]: the candidate that was offered last, at first x"""

    @classmethod
    def of(cls, rows: Tensor, x: Tensor, y: Tensor, draws: Draws) -> Self:
        """These rows [B] of all examples, before anything was tried on them."""
        x, y, no = x[rows], y[rows], torch.zeros_like(rows, dtype=torch.bool)
        working = cls(rows=rows, x=x, y=y, candidate=x.clone(), last=x.clone(), pending=no, unseen=no.clone())
        working.margin = torch.full((len(rows),), -torch.inf, device=x.device)
        working.step = torch.zeros_like(rows, dtype=torch.int32)
        working.draws, working.verdicts = draws.take(rows), Verdicts.unknown(len(rows), x.device)
        return working

    @property
    def best(self) -> Tensor:
        """The candidates [B, ...]; x where there is none."""
        return self.candidate.where(per_example(self.margin > -torch.inf, self.x), self.x)

    def improve(self, better: Tensor, candidate: Tensor, margin: Tensor, step: int) -> None:
        """Replaces the candidates that are `better` [B] by others [B, ...], made after `step` steps."""
        self.unseen |= better
        self.margin = margin.where(better, self.margin)
        self.candidate = candidate.where(per_example(better, candidate), self.candidate)
        self.step = self.step.masked_fill(better, step)
