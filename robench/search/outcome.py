"""What a search found."""

from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from robench.search.judge import Verdicts


@dataclass
class Outcome:
    """Per example of a batch [B]."""

    fooled: Tensor
    """some candidate fooled the judge"""
    last_fooled: Tensor
    """the candidate a run offered last fooled the judge (only where none is dropped)"""
    kept: Tensor
    """[B, ...]: the first candidate that fooled the judge, else the one of largest margin, else x"""
    last: Tensor
    """[B, ...]: where the last run ended (only where none is dropped)"""
    margin: Tensor
    """of `kept`: max_{j != y} z_j - z_y; -inf where nothing was tried"""
    first_step: Tensor
    """steps taken before `kept` was made, in its own run"""
    invalid: Tensor
    """an offered candidate left the box or the ball or was not finite"""
    forwards: Tensor
    backwards: Tensor
    queries: Tensor
    verdicts: Verdicts
    """on `kept`, once a run has ended"""
    failures: dict[int, str] = field(default_factory=dict)
    """rows on which the attack broke off, and why: not fooled, they are not robust either"""

    def copy(self) -> Self:
        """One that the search does not go on changing."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.type is Tensor}
        copied = {name: tensor.clone() for name, tensor in tensors.items()}
        return replace(self, **copied, verdicts=self.verdicts.copy(), failures=dict(self.failures))

    @classmethod
    def of_nothing(cls, x: Tensor) -> "Outcome":
        """Before anything was tried on x [B, ...]."""
        zeros = torch.zeros(len(x), dtype=torch.int32, device=x.device)
        return cls(
            fooled=zeros.bool(),
            last_fooled=zeros.bool(),
            kept=x.clone(),
            last=x.clone(),
            margin=torch.full((len(x),), -torch.inf, device=x.device),
            first_step=zeros.clone(),
            invalid=zeros.bool(),
            forwards=zeros.clone(),
            backwards=zeros.clone(),
            queries=zeros.clone(),
            verdicts=Verdicts.unknown(len(x), x.device),
        )
