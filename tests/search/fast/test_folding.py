"""Layers merged or moved leave the logits as they were."""

import pytest
import torch
from torch import Tensor, nn

from robench.models import build
from robench.search.fast.folding import fold, foldable, pool_first
from tests.helpers import images, with_statistics


@pytest.mark.parametrize(("arch", "norms"), [("resnet18", 20), ("wrn-28-10", 13)])
def test_folded_norms_leave_the_logits_as_they_were(arch: str, norms: int) -> None:
    torch.manual_seed(0)
    model, x = with_statistics(build(arch, (3, 32, 32), 10)), images((3, 32, 32), 2)
    pairs = foldable(model, x)
    assert len(pairs) == norms  # every one of a ResNet; of a pre-activation block the one between its convolutions
    before = model(x)
    fold(model, pairs)
    assert sum(isinstance(module, nn.Identity) for module in model.modules()) >= norms
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-4)


def test_pooling_first_is_the_same_to_the_bit() -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(8, 4, 3))
    model = nn.Sequential(chain, nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)
    x, weights = images((3, 9, 9)).round(decimals=1).requires_grad_(), torch.randn(16, 3)  # equal pixels, so ties

    def gradient() -> Tensor:
        return torch.autograd.grad((model(x) * weights).sum(), x)[0]

    logits, slopes = model(x), gradient()
    pool_first(model)
    assert [type(layer) for layer in chain.children()][1:3] == [nn.MaxPool2d, nn.ReLU]
    assert torch.equal(model(x), logits)
    assert torch.equal(gradient(), slopes)
