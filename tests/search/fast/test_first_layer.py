"""The layer that sees the image loses nothing that matters of it, and its gradient is that of the convolution."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robench.search.fast.first_layer import ByProducts, InHalves, first_layer, summable


def images(shape: tuple[int, ...], count: int = 16) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(2))


def gradient(layer: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    """At x [B, ...], of the output weighted."""
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((layer(x) * weights).sum(), x)
    return found


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 8, 3, padding=1), nn.Linear(12, 8)])
def test_the_first_layer_sees_more_of_an_image_than_bfloat16_holds(layer: nn.Conv2d | nn.Linear) -> None:
    """A change of 1/1000 at a brightness of 0.9 is lost in bfloat16, and not in two halves."""
    torch.manual_seed(0)
    x = 0.9 + 0.05 * images((3, 4, 4) if isinstance(layer, nn.Conv2d) else (12,))
    moved = x + 0.001 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).sign()
    halves = InHalves(copy.deepcopy(layer), products=False)
    seen: list[Tensor] = []
    halves.layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    with torch.no_grad():
        assert halves(x).dtype == torch.bfloat16
        halves(moved)
        exact = copy.deepcopy(halves.layer).float()  # whose sums are not rounded for the next layer
        found, true = exact(seen[1]) - exact(seen[0]), layer(moved) - layer(x)
        rounded = layer(moved.bfloat16().float()) - layer(x.bfloat16().float())
    assert float((found - true).norm() / true.norm()) < 0.05
    assert float((rounded - true).norm() / true.norm()) > 0.5


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 4),
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=pairs,
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_a_gradient_by_products_is_that_of_the_convolution(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bias: bool,
    channels_last: bool,
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 5, kernel, stride, padding, dilation, bias=bias).double()
    if channels_last:
        layer = layer.to(memory_format=torch.channels_last)
    x = images((channels, 9, 8), 3).double()
    weights = torch.randn_like(layer(x))
    found = ByProducts(copy.deepcopy(layer), channels)
    torch.testing.assert_close(found(x), layer(x), rtol=0, atol=0)
    torch.testing.assert_close(gradient(found, x, weights), gradient(layer, x, weights))
    fewer = gradient(ByProducts(layer, channels - 1), x, weights)
    torch.testing.assert_close(fewer[:, :-1], gradient(layer, x, weights)[:, :-1])
    assert not fewer[:, -1].any()


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 8, 5, padding=2, stride=2), nn.Linear(8, 4)])
def test_halves_have_the_gradient_of_the_number(layer: nn.Conv2d | nn.Linear) -> None:
    torch.manual_seed(0)
    x = images((1, 8, 8))
    weights = torch.randn_like(layer(x))
    true = gradient(layer, x, weights)
    for products in (False, True):
        found = gradient(InHalves(copy.deepcopy(layer), products=products), x, weights)
        assert found.dtype == torch.float32
        assert float((found - true).norm() / true.norm()) < 0.01


def test_what_the_products_cannot_stand_for_is_left_alone() -> None:
    assert summable(nn.Conv2d(1, 2, 3))
    assert not summable(nn.Conv2d(1, 2, 3, padding="same"))
    assert not summable(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"))
    assert not summable(nn.Linear(2, 2))


def test_the_first_layer_is_the_first_that_a_pass_meets() -> None:
    class Backwards(nn.Module):
        def __init__(self, groups: int) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(2 * 36, 3), nn.Conv2d(2, 2, 3, groups=groups)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).flatten(1))  # type: ignore[no-any-return]

    x = images((2, 8, 8), 1)
    assert first_layer(Backwards(groups=1), x) == "first"
    assert first_layer(Backwards(groups=2), x) == ""
    assert first_layer(nn.Flatten(), x) == ""
    recomputed = Backwards(groups=1)
    nn.utils.parametrizations.weight_norm(recomputed.first)
    assert first_layer(recomputed, x) == ""
    hooked = Backwards(groups=1)
    hooked.first.register_forward_hook(lambda *_: None)
    assert first_layer(hooked, x) == ""
    assert first_layer(nn.Linear(5, 5), x) == ""  # which fails
