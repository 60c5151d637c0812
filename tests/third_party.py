"""Four public checkpoints that nobody here trained, as networks on images in [0, 1]: `SHARED` says where they lie."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import ROOT

SHARED = ROOT / ".." / "shared"
"""Beside the checkout; tests that need it are skipped where it is not."""


@dataclass(frozen=True)
class Known:
    """What is known of a model: its images, the radius (l-infinity), and of its first `n` images how many survive the
    strongest attack that is known, at most (None: nobody has said), and how many are certified, at least."""

    dataset: str
    eps: str
    n: int
    survive: int | None = None
    certified: int = 0


KNOWN = {
    "kw": Known("mnist", "0.3", 100, 72, 57),
    "fa_fgsm": Known("mnist", "0.3", 100, 81),
    "cnn_a_mix": Known(f"npz:{SHARED}/models/sdp_cifar.npz", "2/255", 200, 106, 96),
    "resnet4b": Known(f"parquet:{SHARED}/data/cifar10-first1000", "2/255", 100),
}


def read(name: str) -> Any:
    return torch.load(SHARED / "models" / name, map_location="cpu", weights_only=True)


class Normalize(nn.Module):
    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std  # type: ignore[operator]


def _cnn_a(channels: int, flat: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(flat, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def _load(net: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """Weights by name, or, where the names differ (other places in the Sequential), in their order."""
    own = net.state_dict()
    if list(own) != list(state):
        assert [each.shape for each in own.values()] == [each.shape for each in state.values()]
        state = dict(zip(own, state.values(), strict=True))
    net.load_state_dict(state)
    return net.eval()


def kw() -> nn.Module:
    return _load(_cnn_a(1, 1568), read("kw_mnist_small_03.pth")["state_dict"][0])  # the first of a cascade


def fa_fgsm() -> nn.Module:
    return _load(_cnn_a(1, 1568), read("fa_fgsm.pth"))


def cnn_a_mix() -> nn.Module:
    document = read("cifar_cnn_a_mix.model")
    state = document.get("state_dict", document)
    net = _load(_cnn_a(3, 2048), state[0] if isinstance(state, list) else state)
    mean, std = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]
    return nn.Sequential(Normalize([m / 255 for m in mean], [s / 255 for s in std]), net).eval()


class Block(nn.Module):
    def __init__(self, entering: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, width, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or entering != width:
            self.shortcut = nn.Sequential(nn.Conv2d(entering, width, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet4b(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.layer2 = nn.Sequential(Block(32, 32, 2), Block(32, 32, 1))
        self.linear1 = nn.Linear(512, 100)
        self.linear2 = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.conv1(x))))
        return self.linear2(F.relu(self.linear1(x.flatten(1))))  # type: ignore[no-any-return]


def resnet4b() -> nn.Module:
    document = read("resnet4b.pth")
    net = _load(ResNet4b(), document.get("state_dict", document))
    return nn.Sequential(Normalize([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]), net).eval()
