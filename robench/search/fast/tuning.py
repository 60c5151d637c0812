"""How a search makes its passes: what changes their speed and, of the numbers, the rounding only.

What fools a tuned model is confirmed by the judge on the model as loaded, in float32.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from robench.models.network import Network
from robench.search.fast.first_layer import ByProducts, InHalves, first_layer, summable
from robench.search.fast.folding import Pairs, fold, foldable, pool_first
from robench.search.fast.operations import operations
from robench.specs.choices import Precision
from robench.utils.copying import copied, frozen
from robench.utils.errors import UserError
from robench.utils.memory import ran_out

LIGHT = 5_000_000
"""Operations on an image below which a pass is mostly what no tuning changes."""

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Points in a pass that are tried, until more are no faster."""

PASSES, SECONDS = 5, 0.05
"""Of a tuning that are timed, and for how long."""

WORTH = 0.85
"""Of the time in float32, what lower precision may take to be chosen."""

CLOSE, ROUGH = 1e-4, 0.05
"""Differences of logits, as shares of the largest, that float32 and bfloat16 may make."""

ALIKE, SIMILAR = 0.99, 0.8
"""Cosines with the model's gradients that float32 and bfloat16 must keep."""


@dataclass(frozen=True)
class Tuning:
    """As it is frozen beside the rows it helped to make. The default is the model as loaded."""

    precision: Literal["float32", "bfloat16"] = "float32"
    first: str = ""
    """the layer that sees the image: bfloat16 has steps of 1/256 where an image is bright, and small radii need more"""
    folds: Pairs = ()
    channels_last: bool = False
    points: int | None = None
    """in a pass; None: as many as there are"""
    patience: int = 1
    """steps between two looks of the judge at pending candidates: each makes the device wait"""
    products: bool = False
    """the gradient at the image is made by `ByProducts`"""
    pool_first: bool = False
    """max pooling goes before ReLU"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, document: dict[str, Any]) -> Self:
        folds = tuple((before, name) for before, name in document["folds"])
        return cls(**{**document, "folds": folds})

    def casting(self, device: torch.device) -> torch.autocast:
        """Where the passes are made."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def prepare(self, model: nn.Module) -> nn.Module:
        """A copy of a frozen model in evaluation mode, made fast."""
        model = copied(model)
        fold(model, self.folds)
        if self.pool_first:
            pool_first(model)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if self.precision == "bfloat16":
            for module in model.modules():
                if type(module) in (nn.Conv2d, nn.Linear):
                    module.to(torch.bfloat16)  # which autocast would convert at each pass
        if self.first:
            _swap(model, self.first, self._of_first(model.get_submodule(self.first)))
        return frozen(model)

    def _of_first(self, layer: Any) -> nn.Module:
        """What stands for the layer that sees the image."""
        if self.precision == "bfloat16":
            return InHalves(layer, products=self.products)
        return ByProducts(layer, layer.weight.shape[1]) if self.products and summable(layer) else layer


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def tune(
    model: nn.Module,
    x: Tensor,
    precision: Precision = "auto",
    most: int = SIZES[-1],
    *,
    light: float = LIGHT,
    sizes: Sequence[int] = SIZES,
    clock: Callable[[torch.device], float] = _now,
) -> Tuning:
    """The fastest way to passes, of at most so many points, of a frozen model in evaluation mode, tried out on images
    x [B, ...] on its device; the model as it is where nothing else gives its logits.

    A model of fewer than `light` operations on an image is not timed, since what a probe of it would find is chance: on
    a CPU a convolutional one gets what is known to help, others stay as they are. A heavier one is timed on
    `clock` [s], which waits for the device, with `sizes` of points in a pass."""
    try:
        probe = _Probe(model, x, sizes, clock)
    except Exception as error:  # no gradient, which the run will say, or memory for fewer images alone
        if not ran_out(error):
            return Tuning()
        if len(x) < 2:
            raise
        half = len(x) // 2
        return tune(model, x[:half], precision, min(most, half), light=light, sizes=sizes, clock=clock)
    if operations(model, x[:1]) < light:
        best = _untimed(probe, precision)
    else:
        best = probe.fastest(_kinds(probe, precision, min(sizes[0], most)), most)
    if best is None and precision == "bfloat16":
        raise UserError(
            "the model cannot be searched in bfloat16: its logits stray from those in float32; ask for auto"
        )
    return best or Tuning()


def _untimed(probe: "_Probe", precision: Precision) -> Tuning | None:
    """What a light model gets; none where that is not true to it."""
    found = Tuning(patience=8 if probe.cuda else 1)
    if probe.convolves:
        found = replace(probe.rewritten(found), channels_last=True, products=True)
    if precision == "bfloat16":
        found = replace(found, precision=precision, first=probe.first)
    return found if probe.true(found) else None


def _kinds(probe: "_Probe", precision: Precision, points: int) -> list[Tuning]:
    """What may be fastest for a heavy model: in either layout, with the gradient at the image made in either way, in
    the precisions asked for."""
    plain = probe.rewritten(Tuning(points=points, patience=8 if probe.cuda else 4))
    last = replace(plain, channels_last=True)
    kinds = [plain, last, *([replace(last, products=True)] if probe.convolves else [])]
    low = [replace(kind, precision="bfloat16") for kind in kinds]
    return [*(kinds if precision != "bfloat16" else []), *(low if precision != "float32" else [])]


@dataclass
class _Probe:
    """Times passes of a model on images x [B, ...]."""

    model: nn.Module
    x: Tensor
    sizes: Sequence[int]
    clock: Callable[[torch.device], float]

    def __post_init__(self) -> None:
        self._found = self._both_ways(self.model, Tuning(), self.x)
        self.cuda = self.x.device.type == "cuda"
        self.first = first_layer(self.model, self.x[:1])
        self.convolves = bool(self.first) and not self.cuda and summable(self.model.get_submodule(self.first))
        """whether `ByProducts` could stand for the first layer, and this is a CPU"""

    def rewritten(self, tuning: Tuning) -> Tuning:
        """With layers merged and moved where that changes nothing."""
        first, folds = self.first, _folds(self.model, self.x)
        return replace(tuning, first=first, folds=folds, pool_first=_may_pool_first(self.model, self.x[:1]))

    def fastest(self, tried: Sequence[Tuning], most: int) -> Tuning | None:
        """With its best number of points; none where none is true to the model."""
        times = {tuning: self._seconds(tuning) / (1 if tuning.precision == "float32" else WORTH) for tuning in tried}
        best = min(tried, key=lambda tuning: times[tuning])
        return replace(best, points=self._points(best, most)) if times[best] < inf else None

    def _points(self, tuning: Tuning, most: int) -> int:
        """In a pass, for the least time a point, or as many more as take no longer."""
        best, least, prepared = tuning.points or self.sizes[0], inf, tuning.prepare(self.model)
        for size in [size for size in self.sizes if size <= most]:
            try:
                each = self._least(prepared, replace(tuning, points=size)) / size
            except Exception:  # most likely memory has run out
                break
            if each < 1.01 * least:
                best, least = size, min(each, least)
            elif size >= 4 * best:
                break
        return best

    def _seconds(self, tuning: Tuning) -> float:
        """The least of a pass forward and back; infinite where it is not true to the model."""
        try:
            return self._least(tuning.prepare(self.model), tuning) if self.true(tuning) else inf
        except Exception:  # most likely memory has run out
            return inf

    def true(self, tuning: Tuning) -> bool:
        """Whether it gives the model's logits, and its gradients."""
        try:
            logits, gradient = self._both_ways(tuning.prepare(self.model), tuning, self.x)
        except Exception:  # whatever a user's layers do when they are changed
            return False
        close, alike = (CLOSE, ALIKE) if tuning.precision == "float32" else (ROUGH, SIMILAR)
        return _agree(logits, self._found[0], close) and _aligned(gradient, self._found[1], alike)

    def _least(self, prepared: nn.Module, tuning: Tuning) -> float:
        """Of a few passes: two, unless the first takes a second, and then no more than fit into the time."""
        times = [self._pass(prepared, tuning)]
        while len(times) < PASSES and sum(times) < (SECONDS if len(times) > 1 else 1):
            times.append(self._pass(prepared, tuning))
        return min(times)

    def _pass(self, prepared: nn.Module, tuning: Tuning) -> float:
        points = tuning.points or len(self.x)
        x = self.x.repeat(-(-points // len(self.x)), *[1] * (self.x.dim() - 1))[:points]
        start = self.clock(x.device)
        self._both_ways(prepared, tuning, x)
        return self.clock(x.device) - start

    def _both_ways(self, model: nn.Module, tuning: Tuning, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C], and the gradient at x [B, ...] of a smooth largest logit."""
        x = x.detach().requires_grad_()
        with torch.enable_grad(), tuning.casting(x.device):
            logits = model(x.clone()).float()
            logits.logsumexp(1).sum().backward()
        assert x.grad is not None
        return logits.detach(), x.grad


def _agree(found: Tensor, true: Tensor, share: float) -> bool:
    """Whether logits [B, C] differ by less than this share of what tells classes apart, where they are finite."""
    masked = (found == -torch.inf) & (true == -torch.inf)
    found, true = (logits.float().masked_fill(masked, 0.0) for logits in (found, true))
    finite = true.isfinite().all(1)
    found, true = (logits[finite] - logits[finite].mean(1, keepdim=True) for logits in (found, true))
    return bool(finite.any() and (found - true).abs().max() <= share * true.abs().max())


def _aligned(found: Tensor, true: Tensor, least: float) -> bool:
    """Whether gradients [B, ...] have at least this cosine, and about the same length, over those that are finite."""
    found, true = found.flatten(1), true.flatten(1)
    finite = true.isfinite().all(1)
    found, true = found[finite].flatten(), true[finite].flatten()
    lengths = float(found.norm()), float(true.norm())
    if max(lengths) == 0:
        return True
    return bool(found @ true >= least * max(lengths) ** 2)


@torch.no_grad()
def _folds(model: nn.Module, x: Tensor) -> Pairs:
    """The pairs that may be folded: none where the logits of x [B, ...] would change, or the model misses a norm."""
    try:
        pairs = foldable(model, x)
        folded = Tuning(folds=pairs).prepare(model)
        return pairs if _agree(folded(x.clone()), model(x.clone()), CLOSE) else ()
    except Exception:  # whatever a user's model does
        return ()


@torch.no_grad()
def _may_pool_first(model: nn.Module, image: Tensor) -> bool:
    """Whether a pass of image [1, ...] shows nothing of it when pooling goes first, not even in the features that a
    network gives."""
    if not any(isinstance(module, nn.MaxPool2d) for module in model.modules()):
        return False
    try:
        changed = Tuning(pool_first=True).prepare(model)
        given = (each.feature_map if isinstance(each, Network) else each for each in (changed, model))
        return torch.equal(*(give(image.clone()) for give in given))
    except Exception:  # whatever a user's model does
        return False


def _swap(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
