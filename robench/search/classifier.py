"""The engine's view of a model: logits and input gradients of a frozen copy, every pass counted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robench.losses import Loss, check_self_contained, evaluated
from robench.models.network import Network
from robench.search.fast.tuning import Tuning
from robench.utils.containment import contained
from robench.utils.copying import copied, frozen
from robench.utils.errors import AttackError, NoGradient, UserError
from robench.utils.global_rng import undisturbed
from robench.utils.memory import ran_out


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 as written: no TF32 or bfloat16 inside matrix products and convolutions, no autocast."""
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
        torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
    )
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


Made = TypeVar("Made")

Layer = Literal["map", "pooled"]
"""The last feature map, or the features that the last linear layer sees."""

PROBED, LOST = 16, 0.01
"""Images on which the faces of the box are looked at, and the share of their pixels that may have no gradient there."""

Output = Literal["logits", "map", "pooled"]
"""What of a model a loss is given."""


def shown_layers(model: nn.Module) -> set[Layer]:
    """What a model shows of its features: both of a Network, the input of the last linear layer of another module."""
    if isinstance(model, Network):
        return {"map", "pooled"}
    return {"pooled"} if any(isinstance(module, nn.Linear) for module in model.modules()) else set()


class NoLogits(UserError):  # noqa: N818
    """A model's `output` for so many `images` is no tensor [images, classes]; they may lie within it."""

    def __init__(self, output: Any, images: int) -> None:
        given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        super().__init__(f"expected logits of shape ({images}, at least 2 classes) from the model, got {given}")
        self.output, self.images = output, images


class Classifier:
    """A frozen copy of `model` in evaluation mode on `device`; the caller's own is never touched.

    `forwards` and `backwards` count images, not calls. Of a stochastic model everything is the mean over `draws` passes
    (expectation over transformation, Athalye et al. 2018). `tuning` may set the points in a pass, of which half as many
    are taken once memory runs out. A model of float16 weights, or of another kind of floats, is given images of that
    kind. Where a model has no gradient on the faces of the box, as one that clamps its input, gradients are taken just
    inside.
    """

    def __init__(
        self, model: nn.Module, device: torch.device | str = "cpu", draws: int = 1, tuning: Tuning | None = None
    ) -> None:
        self.device, self.draws, self.tuning = torch.device(device), draws, tuning or Tuning()
        self.model = frozen(copied(model).to(self.device).eval())
        if tuning:
            self.model = tuning.prepare(self.model)
        self.points = self.tuning.points
        self.dtype = _dtype(model)
        self.inset = 2 * torch.finfo(self.dtype).eps
        """how far that is"""
        self._bare_faces: bool | None = None
        """whether the model has no gradient there, once that is known"""
        self.forwards = 0
        self.backwards = 0

    @property
    def passes(self) -> int:
        return self.forwards + self.backwards

    def logits(self, x: Tensor) -> Tensor:
        """x [B, ...] in [0, 1] -> logits [B, C]."""
        return _mean([self.logits_once(x) for _ in range(self.draws)])

    def logits_once(self, x: Tensor) -> Tensor:
        """As `logits`, of one pass whatever the draws."""
        if torch.is_grad_enabled():  # by a library, which differentiates what it is given
            x = x + (self._climbable(x.detach()) - x).detach()
            return torch.cat(self._in_parts(lambda rows: self._remembered(x[rows]), len(x)))
        return torch.cat(self._in_parts(lambda rows: self._pass(x[rows]), len(x)))

    def _remembered(self, x: Tensor) -> Tensor:
        """As `_pass`; once memory has run out what a pass keeps for its gradient is made again when that is wanted."""
        if self.points is None:
            return self._pass(x)
        logits: Tensor = checkpoint(self._pass, x, use_reentrant=False)
        return logits

    def _climbable(self, x: Tensor) -> Tensor:
        """x, or where the model has no gradient on the faces of the box the points just inside."""
        if self._bare_faces is None:
            self._bare_faces = self._probe_faces(x[:PROBED])
        return self._inside(x) if self._bare_faces else x

    def _probe_faces(self, x: Tensor) -> bool | None:
        """Whether a gradient is lost on the faces of the box; None where none of x lies on one. Costs two passes each
        way, which are not counted."""
        on = (x <= 0) | (x >= 1)
        if not on.any():
            return None
        before, self._bare_faces = (self.forwards, self.backwards), False
        with undisturbed(self.device):
            at, inside = (self._slope(points) for points in (x, self._inside(x)))
        self.forwards, self.backwards = before
        return bool((on & (at == 0) & (inside != 0)).sum() > LOST * on.sum())

    def _slope(self, x: Tensor) -> Tensor:
        """Of a smooth largest logit, at x; 0 where there is none."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            top = self._pass(x).logsumexp(1).sum()
            if top.requires_grad:
                top.backward()  # type: ignore[no-untyped-call]
        return torch.zeros_like(x) if x.grad is None else x.grad

    def _inside(self, x: Tensor) -> Tensor:
        """Points that lie on a face of the box moved a rounding into it; the others as they are."""
        inner = x.clamp(self.inset, 1 - self.inset)
        return inner.where((inner - x).abs() <= 1.5 * self.inset, x)

    def features(self, x: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        """Features [B, ...] and logits [B, C] in one pass. A module that is no Network has pooled features only: what
        enters its last linear layer."""

        def seen(rows: slice) -> tuple[Tensor, Tensor]:
            features, logits = zip(*(self._features_once(x[rows], layer) for _ in range(self.draws)), strict=True)
            return _mean(features), _mean(logits)

        features, logits = map(torch.cat, zip(*self._in_parts(seen, len(x)), strict=True))
        return features, logits

    def logits_and_gradient(self, x: Tensor, y: Tensor, loss: Loss, *beside: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at x [B, ...], and the gradient at x of each example's own `loss`, in one pass each way."""
        logits, _, gradient = self.differentiate(x, y, loss, *beside)
        return logits, gradient

    def differentiate(
        self, x: Tensor, y: Tensor, loss: Loss, *beside: Tensor, of: Output = "logits"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits at x [B, ...], the loss [B] of each example's own output, and its gradient at x, in one pass each way.

        y and `beside` have a row for each of x. Raises NoGradient where no path leads from the loss to the image."""
        check_self_contained(loss)

        def differentiated(rows: slice) -> tuple[Tensor, ...]:
            given = [values[rows] for values in (y, *beside)]
            drawn = [self._differentiated(x[rows], of, loss, *given) for _ in range(self.draws)]
            return tuple(map(_mean, zip(*drawn, strict=True)))

        logits, value, gradient = map(torch.cat, zip(*self._in_parts(differentiated, len(x)), strict=True))
        return logits, value, gradient

    def _in_parts(self, passed: Callable[[slice], Made], count: int) -> list[Made]:
        """What `passed` gives for the rows of each part."""
        made: list[Made] = []
        start = 0
        while start < count or not made:
            size = min(self.points or count, count - start)
            try:
                made.append(passed(slice(start, start + size)))
            except Exception as error:
                if size < 2 or not ran_out(error):
                    raise
                self.points = size // 2
            else:
                start += size
        return made

    def _pass(self, x: Tensor) -> Tensor:
        with self.tuning.casting(self.device), contained(f"model {type(self.model).__name__}"):
            logits = self.model(x.clone() if x.dtype == self.dtype else x.to(self.dtype))  # it may change that in place
        self.forwards += len(x)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < 2 or len(logits) != len(x):
            raise NoLogits(logits, len(x))
        return logits.float()

    def _features_once(self, x: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        if isinstance(self.model, Network):
            self.forwards += len(x)
            with self.tuning.casting(self.device):
                feature_map = self.model.feature_map(x)
                pooled = self.model.pool(feature_map)
                logits = self.model.head(pooled)
            return (feature_map if layer == "map" else pooled).float(), logits.float()
        linear = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        if layer == "map" or not linear:
            raise AttackError(f"{type(self.model).__name__} shows no {layer} features; a Network of robench does")
        seen: list[Tensor] = []
        hook = linear[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self._pass(x)
        finally:
            hook.remove()
        return seen[-1].float(), logits

    def _differentiated(self, x: Tensor, of: Output, loss: Loss, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """By one pass each way."""
        with torch.enable_grad():
            x = self._climbable(x.detach()).detach().requires_grad_()
            if of == "logits":
                output = logits = self._pass(x)
            else:
                output, logits = self._features_once(x, of)
            value = evaluated(loss, output, *given)
            if not value.requires_grad:
                raise NoGradient(f"no path leads from the {of} of {type(self.model).__name__} back to the image")
            value.sum().backward()  # type: ignore[no-untyped-call]  # reentrant checkpoints refuse `grad`
        if x.grad is None:
            raise NoGradient(f"no path leads from the {of} of {type(self.model).__name__} back to the image")
        self.backwards += len(x)
        return logits.detach(), value.detach(), x.grad


def _dtype(model: nn.Module) -> torch.dtype:
    """The kind of floats that all of a model's parameters are; float32 where they differ, or where it has none."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.dtype.is_floating_point}
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _mean(values: Iterable[Tensor]) -> Tensor:
    each = list(values)
    return each[0] if len(each) == 1 else torch.stack(each).mean(0)
