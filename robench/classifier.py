"""The engine's view of a model: logits and input gradients of a frozen copy, every pass counted."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from robench.errors import AttackError, UserError
from robench.losses import Loss
from robench.models.network import Network
from robench.tuning import Tuning


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


def shown_layers(model: nn.Module) -> set[Layer]:
    """What a model shows of its features: both of a Network, the input of the last linear layer of another module."""
    if isinstance(model, Network):
        return {"map", "pooled"}
    return {"pooled"} if any(isinstance(module, nn.Linear) for module in model.modules()) else set()


class Classifier:
    """A frozen copy of `model` in evaluation mode on `device`; the caller's own is never touched.

    `forwards` and `backwards` count images, not calls. Of a stochastic model everything is the mean over `draws` passes
    (expectation over transformation, Athalye et al. 2018). `tuning` may set the points in a pass, of which half as many
    are taken once memory runs out.
    """

    def __init__(
        self, model: nn.Module, device: torch.device | str = "cpu", draws: int = 1, tuning: Tuning | None = None
    ) -> None:
        self.device, self.draws, self.tuning = torch.device(device), draws, tuning or Tuning()
        self.model = copy.deepcopy(model).to(self.device).eval().requires_grad_(False)
        if tuning:
            self.model = tuning.prepare(self.model)
        self.points = self.tuning.points
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
            return self._pass(x)
        return torch.cat(self._in_parts(lambda rows: self._pass(x[rows]), len(x)))

    def features(self, x: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        """Features [B, ...] and logits [B, C] in one pass. A module that is no Network has pooled features only: what
        enters its last linear layer."""

        def seen(rows: slice) -> tuple[Tensor, Tensor]:
            features, logits = zip(*(self._features_once(x[rows], layer) for _ in range(self.draws)), strict=True)
            return _mean(features), _mean(logits)

        return self._in_pairs(seen, len(x))

    def logits_and_gradient(self, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Logits at x [B, ...], and the gradient at x of each example's own `loss(logits, y)` [B], in one pass each
        way."""

        def differentiated(rows: slice) -> tuple[Tensor, Tensor]:
            def forward(x: Tensor) -> tuple[Tensor, Tensor]:
                logits = self._pass(x)
                return logits, logits

            return self._differentiated(x[rows], forward, lambda logits: loss(logits, y[rows]))

        return self._in_pairs(differentiated, len(x))

    def feature_gradient(
        self, x: Tensor, layer: Layer, objective: Callable[[Tensor, Tensor], Tensor], aim: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits at x [B, ...], and the gradient at x of each example's own `objective(features, aim)` [B], `aim`
        [B, ...] being what belongs to each."""
        return self._in_pairs(
            lambda rows: self._differentiated(
                x[rows], lambda x: self._features_once(x, layer), lambda features: objective(features, aim[rows])
            ),
            len(x),
        )

    def _in_pairs(self, passed: Callable[[slice], tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
        """As `_in_parts`, of what comes in two, each put together."""
        first, second = zip(*self._in_parts(passed, count), strict=True)
        return torch.cat(first), torch.cat(second)

    def _in_parts(self, passed: Callable[[slice], Made], count: int) -> list[Made]:
        """What `passed` gives for the rows of each part."""
        made: list[Made] = []
        start = 0
        while start < count or not made:
            size = min(self.points or count, count - start)
            try:
                made.append(passed(slice(start, start + size)))
            except torch.OutOfMemoryError:
                if size < 2:
                    raise
                self.points = size // 2
            else:
                start += size
        return made

    def _pass(self, x: Tensor) -> Tensor:
        with self.tuning.casting(self.device):
            logits = self.model(x.clone())  # which it may change in place
        self.forwards += len(x)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < 2 or len(logits) != len(x):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"expected logits of shape ({len(x)}, at least 2 classes) from the model, got {given}")
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

    def _differentiated(
        self, x: Tensor, forward: Callable[[Tensor], tuple[Tensor, Tensor]], objective: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        drawn = []
        for _ in range(self.draws):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                values, logits = forward(x)
                (gradient,) = torch.autograd.grad(objective(values).sum(), x)
                self.backwards += len(x)
            drawn.append((logits.detach(), gradient))
        return _mean([logits for logits, _ in drawn]), _mean([gradient for _, gradient in drawn])


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(0)
