"""The layer that sees the image: what it must not lose of it in low precision, and its gradient there."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

Layer = nn.Conv2d | nn.Linear


@torch.no_grad()
def first_layer(model: nn.Module, image: Tensor) -> str:
    """The name of the first convolution or linear layer that a pass of image [1, ...] meets; none where it cannot be
    replaced, or where the model fails."""
    met: list[str] = []
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Layer)}
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs, name=name: met.append(name))
        for name, layer in layers.items()
    ]
    try:
        model(image.clone())
    except Exception:  # whatever a user's model does
        return ""
    finally:
        for hook in hooks:
            hook.remove()
    return met[0] if met and _replaceable(layers[met[0]]) else ""


def _replaceable(layer: Layer) -> bool:
    """Whether it does what its class says and nothing else: in one group, with a weight that nothing recomputes."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    plain = type(layer) in (nn.Conv2d, nn.Linear) and "weight" in layer._parameters and not any(hooks)
    return plain and getattr(layer, "groups", 1) == 1


class InHalves(nn.Module):
    """A layer that takes its input in bfloat16 as two summands, the number and what rounding took off it. The gradient
    is that at the first."""

    def __init__(self, layer: Layer, *, products: bool) -> None:
        """products: see `ByProducts`."""
        super().__init__()
        channels = layer.weight.shape[1]
        layer = layer.to(torch.bfloat16)
        layer.weight = nn.Parameter(torch.cat([layer.weight, layer.weight], 1), requires_grad=False)
        self.over = 1 if isinstance(layer, nn.Conv2d) else -1
        self.layer = ByProducts(layer, channels) if products and summable(layer) else layer

    def forward(self, x: Tensor) -> Tensor:
        number = x.to(torch.bfloat16)
        rest = (x.detach() - number.detach()).to(torch.bfloat16)
        result: Tensor = self.layer(torch.cat([number, rest], self.over))
        return result


def summable(layer: nn.Module) -> bool:
    """Whether `ByProducts` can stand for it."""
    return isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class ByProducts(nn.Module):
    """A convolution of one group whose gradient at its input is made by a matrix product and sums of shifted images: on
    a CPU, where the input has but a few channels, several times as fast as convolving back."""

    def __init__(self, layer: Layer, channels: int) -> None:
        """Of the input's channels the first so many are given a gradient."""
        super().__init__()
        assert isinstance(layer, nn.Conv2d)
        self.layer, self.channels = layer, channels
        self.kernel = layer.weight.detach()[:, :channels].permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        """[rows * columns * channels, outputs]"""

    def forward(self, x: Tensor) -> Tensor:
        return _Convolved.apply(x, self)  # type: ignore[no-any-return]

    def gradient(self, given: Tensor, shape: torch.Size) -> Tensor:
        """At an input of `shape` [B, C, H, W], for the gradient [B, outputs, h, w] at the output."""
        count, among, height, width = shape
        outputs, *size = given.shape[1:]
        (rows, columns), stride, dilation = self.layer.kernel_size, self.layer.stride, self.layer.dilation
        top, left = (int(side) for side in self.layer.padding)
        shifted = self.kernel @ given.permute(0, 2, 3, 1).reshape(-1, outputs).t()
        shifted = shifted.view(rows, columns, self.channels, count, *size)
        precise = torch.promote_types(given.dtype, torch.float32)
        sums = given.new_zeros((self.channels, count, height + 2 * top, width + 2 * left), dtype=precise)
        for row in range(rows):
            down = _shift(row, size[0], stride[0], dilation[0])
            for column in range(columns):
                sums[:, :, down, _shift(column, size[1], stride[1], dilation[1])] += shifted[row, column]
        inside = sums[:, :, top : top + height, left : left + width].transpose(0, 1)
        return F.pad(inside, (0, 0, 0, 0, 0, among - self.channels)).to(given.dtype)


def _shift(index: int, size: int, stride: int, dilation: int) -> slice:
    """Where the element `index` of a kernel meets the input, for an output of that size."""
    start = index * dilation
    return slice(start, start + (size - 1) * stride + 1, stride)


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, by: ByProducts) -> Tensor:
        ctx.by, ctx.shape = by, x.shape  # type: ignore[attr-defined]
        convolved: Tensor = by.layer(x)
        return convolved

    @staticmethod
    def backward(ctx: FunctionCtx, given: Tensor) -> tuple[Tensor, None]:
        return ctx.by.gradient(given, ctx.shape), None  # type: ignore[attr-defined]
