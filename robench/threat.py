"""The threat model: which images around x an attacker may show the model."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from robench.utils.errors import UserError
from robench.utils.sizes import Norm as Norm
from robench.utils.sizes import Size as Size
from robench.utils.sizes import check_norm
from robench.utils.sizes import parse_size as parse_size

RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ThreatModel:
    """The images within `eps` of x (l-infinity or l2) that lie in the box [0, 1].

    `eps_written` keeps the radius as the user wrote it ("8/255"); `eps` is its value. All shapes below: x, x_adv and
    gradient are [B, ...], a result per example is [B].
    """

    norm: Norm
    eps_written: str
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_norm(self.norm)
        if not (self.eps > 0 and math.isfinite(self.eps)):
            raise UserError(f"expected eps above 0, got {self.eps_written!r}")

    @classmethod
    def of(cls, norm: str, eps: Size) -> "ThreatModel":
        return cls(cast(Norm, norm), str(eps))

    @classmethod
    def asked(cls, norm: str, eps: Size, shape: Sequence[int]) -> "ThreatModel":
        """The threat a user asks for on images of this `shape` [C, H, W] (empty where it is not known).

        A ball that holds the whole box [0, 1], whatever its centre, is refused: l-infinity from 1 on, l2 from
        sqrt(C H W) on. Every image could then become every other, so that no model is robust and the number says
        nothing; who writes such a radius means 255ths. Any smaller radius leaves some images apart and is allowed,
        though from 0.5 on (l-infinity) a grey image is within reach of all.
        """
        threat = cls.of(norm, eps)
        threat.check_length(eps, shape, "a radius")
        return threat

    def check_length(self, written: Size, shape: Sequence[int], what: str) -> None:
        """Refuses a length from which on a step or a ball crosses the whole box of images [C, H, W]. One that is
        written in shares of eps is what its author means."""
        if "eps" in str(written):
            return
        whole = 1.0 if self.norm == "linf" else math.sqrt(math.prod(shape)) if shape else math.inf
        value = parse_size(written)
        if value < whole:
            return
        plain = re.fullmatch(r"[\d.]+", str(written).strip()) and value / 255 < whole
        hint = f"did you mean {value:g}/255?" if plain else "lengths are in units of [0, 1]"
        of_whole = "the whole box [0, 1]" if self.norm == "linf" else f"sqrt({'*'.join(map(str, shape))}) = {whole:.4g}"
        raise UserError(f"expected {what} below {whole:.4g} for {self.norm} ({of_whole}), got {written}; {hint}")

    def __str__(self) -> str:
        return f"{self.norm} {self.eps_written}"

    @cached_property
    def eps(self) -> float:
        return parse_size(self.eps_written)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        difference = (x_adv - x).flatten(1)
        return difference.abs().amax(1) if self.norm == "linf" else torch.linalg.vector_norm(difference, dim=1)

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Whether x_adv is finite, inside the box and inside the ball, up to the one tolerance used everywhere."""
        return self.in_box(x_adv) & (self.distance(x_adv, x) <= self.reach)  # a comparison with NaN is false

    def in_box(self, x_adv: Tensor) -> Tensor:
        flat = x_adv.flatten(1)
        return (flat.amin(1) >= self.low - ABSOLUTE_TOLERANCE) & (flat.amax(1) <= self.high + ABSOLUTE_TOLERANCE)

    @cached_property
    def reach(self) -> float:
        """The radius with its tolerance."""
        return self.eps * (1 + RELATIVE_TOLERANCE) + ABSOLUTE_TOLERANCE

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the ball (for l2 along the ray to x), then of the box."""
        if self.norm == "linf":
            return x_adv.clamp(*self.limits(x))
        difference = x_adv - x
        length = per_example(torch.linalg.vector_norm(difference.flatten(1), dim=1), difference)
        return (x + difference * (self.eps / length.clamp(min=self.eps))).clamp(self.low, self.high)

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """For l-infinity, the least and the greatest that each pixel may be."""
        return (x - self.eps).clamp(self.low, self.high), (x + self.eps).clamp(self.low, self.high)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit length in this norm along which a linear function rises most; 0 where it is flat."""
        if self.norm == "linf":
            return gradient.sign()
        flat = gradient.flatten(1)
        flat = flat / flat.abs().amax(1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)  # no underflow below
        unit: Tensor = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp(min=1)
        return unit.view_as(gradient)

    def ball_point(self, uniform: Tensor, normal: Tensor | None = None) -> Tensor:
        """A uniform point of the ball of radius eps about 0.

        linf: `uniform` [B, ...] in [0, 1) gives each coordinate. l2: `normal` [B, ...] gives the direction and
        `uniform` [B] the radius.
        """
        if self.norm == "linf":
            return (2 * uniform - 1) * self.eps
        assert normal is not None
        radius = self.eps * uniform ** (1 / normal.shape[1:].numel())
        return self.steepest(normal) * per_example(radius, normal)


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """[B] reshaped to [B, 1, ...] so that it broadcasts over `like` [B, ...]."""
    return values.view(-1, *[1] * (like.dim() - 1))
