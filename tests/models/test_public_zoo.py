"""Networks of robench beside the public definitions whose weights they take."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.models import build
from robench.models.deepmind_wide_resnet import SwishWideResNet
from robench.models.libraries.robustbench import library
from robench.models.mobilenet import STAGES
from robench.models.wide_resnet import WideResNet
from robench.utils.errors import UserError

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def architectures() -> Callable[[str], Any]:
    """RobustBench's modules of networks, by their names."""
    try:
        return lambda name: library(f"model_zoo.architectures.{name}")
    except UserError:
        pytest.skip("robustbench is not installed")


def drawn(network: nn.Module) -> nn.Module:
    """Whose every weight and running mean matters."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    tensor.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return network.eval()


def check_same(ours: nn.Module, public: nn.Module) -> None:
    ours.load_state_dict(drawn(public).state_dict())
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = public(x)
        torch.testing.assert_close(ours.eval()(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("arch", "block", "normed"),
    [
        ("preactresnet18", "PreActBlockV2", False),
        ("preactresnet18-bn", "PreActBlockV2", True),
        ("preactresnet18-fast", "PreActBlock", False),
    ],
)
def test_preact_resnets(architectures: Callable[[str], Any], arch: str, block: str, normed: bool) -> None:
    module = architectures("resnet")
    public = module.PreActResNet(getattr(module, block), [2, 2, 2, 2], bn_before_fc=normed)
    check_same(build(arch, SHAPE, 10), public)


def test_resnet18(architectures: Callable[[str], Any]) -> None:
    check_same(build("resnet18", SHAPE, 10), architectures("resnet").ResNet18())


def test_wide_resnets(architectures: Callable[[str], Any]) -> None:
    check_same(WideResNet(SHAPE, 7, 16, 2), architectures("wide_resnet").WideResNet(16, 7, widen_factor=2))


def test_deepmind_wide_resnets(architectures: Callable[[str], Any]) -> None:
    module = architectures("dm_wide_resnet")
    public = module.DMWideResNet(7, 16, 2, module.Swish, module.CIFAR100_MEAN, module.CIFAR100_STD)
    ours = SwishWideResNet(SHAPE, 7, 16, 2)
    ours.normalize.set(module.CIFAR100_MEAN, module.CIFAR100_STD)
    check_same(ours, public)


class Written(nn.Module):
    """A forward pass over named weights."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.state = state

    def normed(self, x: Tensor, convolution: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{convolution}.weight"]
        bias = self.state.get(f"{convolution}.bias")
        x = F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2, groups=groups)
        mean, var, scale, shift = (
            self.state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, scale, shift)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x.mean((2, 3)), self.state[f"{name}.weight"], self.state[f"{name}.bias"])


class WrittenVGG11(Written):
    def forward(self, x: Tensor) -> Tensor:
        for number, pooled in ((0, True), (4, True), (8, False), (11, True), (15, False), (18, True), (22, False)):
            x = self.normed(x, f"features.{number}", f"features.{number + 1}").relu()
            x = F.max_pool2d(x, 2) if pooled else x
        x = F.max_pool2d(self.normed(x, "features.25", "features.26").relu(), 2)
        return self.linear(x, "classifier")


class WrittenMobileNetV2(Written):
    def forward(self, x: Tensor) -> Tensor:
        x = self.normed(x, "conv1", "bn1").relu()
        strides = [1 if number else stride for _, _, depth, stride in STAGES for number in range(depth)]
        assert strides == [1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
        for number, stride in enumerate(strides):
            x = self.block(x, f"layers.{number}", stride)
        return self.linear(self.normed(x, "conv2", "bn2").relu(), "linear")

    def block(self, x: Tensor, name: str, stride: int) -> Tensor:
        out = self.normed(x, f"{name}.conv1", f"{name}.bn1").relu()
        out = self.normed(out, f"{name}.conv2", f"{name}.bn2", stride, groups=out.shape[1]).relu()
        out = self.normed(out, f"{name}.conv3", f"{name}.bn3")
        if stride != 1:
            return out
        widens = f"{name}.shortcut.0.weight" in self.state
        return out + (self.normed(x, f"{name}.shortcut.0", f"{name}.shortcut.1") if widens else x)


@pytest.mark.parametrize(("arch", "written"), [("vgg11", WrittenVGG11), ("mobilenetv2", WrittenMobileNetV2)])
def test_networks_do_what_their_public_names_say(arch: str, written: type[Written]) -> None:
    ours = drawn(build(arch, SHAPE, 10))
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), written(ours.state_dict())(x), rtol=1e-4, atol=1e-3)


def test_a_vgg_gives_its_weights_back(in_tmp: Any) -> None:
    first, second = build("vgg11", SHAPE, 10), build("vgg11", SHAPE, 10)
    state = first.state_dict()
    assert {"features.0.weight", "features.26.running_var", "classifier.bias"} <= set(state)
    second.load_state_dict(state)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in state.items())
    assert nn.Sequential(second).state_dict().keys() == {f"0.{name}" for name in state}
