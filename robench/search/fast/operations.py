"""How much a pass of a model computes, counted as it is made."""

from collections.abc import Callable, Mapping
from math import inf, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@torch.no_grad()
def operations(model: nn.Module, image: Tensor) -> float:
    """Multiplications and additions of a forward pass of image [1, ...]: those of convolutions, matrix products and
    attention, beside which others are few. Infinite where they cannot be counted."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return inf
    try:
        with _Operations() as counting:
            model(image.clone())
    except Exception:  # whatever a user's model does
        return inf
    return float(counting.total)


class _Operations(TorchFunctionMode):
    """Counts as torch's functions are called. (torch's own FlopCounterMode takes seconds to import a compiler.)"""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in _COUNTS:
            self.total += _COUNTS[func](found, *args, **(kwargs or {}))
        return found


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * out.numel() * prod(weight.shape[1:])


def _transposed_convolution(out: Tensor, x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * prod(weight.shape[1:])


def _product(out: Tensor, first: Tensor, *_: Any, **__: Any) -> int:
    return 2 * out.numel() * first.shape[-1]


def _added_product(out: Tensor, added: Tensor, first: Tensor, *_: Any, **__: Any) -> int:
    return 2 * out.numel() * first.shape[-1]


def _attention(out: Tensor, query: Tensor, key: Tensor, *_: Any, **__: Any) -> int:
    return 2 * key.shape[-2] * (query.numel() + out.numel())


def _multi_head_attention(out: tuple[Tensor, Any], query: Tensor, key: Tensor, *_: Any, **__: Any) -> int:
    """Of query [L, B, E] and key [S, B, E], which are projected to E, as are the values and what comes out."""
    width, spoken = query.shape[-1], key.shape[0]
    return 4 * width * (query.numel() + key.numel()) + 4 * spoken * query.numel()


_COUNTS: dict[Callable[..., Any], Callable[..., int]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _convolution),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _transposed_convolution),
    **dict.fromkeys((F.linear, torch.matmul, torch.mm, torch.bmm), _product),
    **dict.fromkeys((Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm), _product),
    **dict.fromkeys((torch.addmm, torch.baddbmm, Tensor.addmm, Tensor.baddbmm), _added_product),
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _multi_head_attention,
}
