"""Operations are counted as torch's own counter counts them."""

from collections.abc import Sequence
from math import inf

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robench.models import ARCHITECTURES, build
from robench.search.fast.operations import operations


class Mixed(nn.Module):
    """Matrix products in several words, and a convolution transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 3, stride=2)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.project = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.up(x).flatten(1)[:, :96].reshape(len(x), 12, 8)
        tokens = tokens @ self.project + torch.bmm(tokens, self.project.expand(len(x), 8, 8))
        attended, _ = self.attend(tokens, tokens, tokens, need_weights=True)
        return torch.addmm(torch.zeros(10), attended.flatten(1), torch.ones(96, 10))


def theirs(model: nn.Module, x: Tensor) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return float(counter.get_total_flops())


@pytest.mark.parametrize(
    ("arch", "shape"),
    [("digit_cnn", (1, 8, 8)), ("small_cnn", (1, 28, 28)), ("lenet", (1, 28, 28)), ("resnet18", (3, 32, 32))],
)
def test_networks(arch: str, shape: Sequence[int]) -> None:
    assert arch in ARCHITECTURES
    model, x = build(arch, shape, 10).eval(), torch.rand(1, *shape)
    assert operations(model, x) == theirs(model, x) > 0


def test_products_in_other_words() -> None:
    model, x = Mixed().train(), torch.rand(1, 3, 8, 8)
    assert operations(model, x) == theirs(model, x) > 0


def test_what_cannot_be_counted_is_infinite() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("too small a batch")

    assert operations(Fails(), torch.rand(1, 1, 8, 8)) == inf
    scripted = torch.jit.trace(nn.Flatten(), torch.rand(1, 1, 8, 8))  # type: ignore[no-untyped-call]
    assert operations(scripted, torch.rand(1, 1, 8, 8)) == inf
