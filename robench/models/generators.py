"""Networks that make perturbations of images, for the amortised distributions of ADT (Dong et al. 2020, appendix C.2).

Where the appendix and the released code differ the default is the code's; what neither says is marked "ours".
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.resnet import BasicBlock
from robench.utils.errors import UserError

Blocks = Literal["code", "paper"]
"""Whether the last of the three residual blocks is as wide as the first convolution, or as the other blocks."""

LATENT = 64
"""The dimensions of z, uniform in (-1, 1), that the implicit generator turns into a perturbation."""

REFERENCE_BATCH = 64
"""The paper's batch size. Its gradients are of the batch's mean loss; ours always of the sum divided by this, so that
what the generator makes of an example does not depend on the others."""

FIELD = 32
"""The height and width that the posterior's unpadded convolutions are made for."""


def generator_input(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """[B, 3C, H, W]: x, the raw gradient of ce(model(x), y) there, and that at the FGSM point, clamped to the box.

    Two forward and two backward passes; nothing reaches the model's parameters. The code, like this project, has the
    model in evaluation mode for them.
    """
    first = _gradient(model, x, y)
    second = _gradient(model, (x + eps * first.sign()).clamp(0, 1), y)
    return torch.cat([x, first, second], 1)


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(model(x), y, reduction="sum") / REFERENCE_BATCH
        return torch.autograd.grad(loss, x)[0]


class ExplicitGenerator(nn.Module):
    """What `generator_input` gives -> mu and rho of a tanh-Gaussian, [B, C, H, W] each, for images [C, H, W].

    A 3x3 convolution of `filters`, three residual blocks of twice as many (see `Blocks`), a 3x3 convolution; stride 1,
    zero padding, no bias, batch norm and ReLU but for the last. The paper's `filters` are 256.
    """

    def __init__(self, shape: Sequence[int], filters: int, blocks: Blocks) -> None:
        super().__init__()
        self.trunk = _trunk(3 * shape[0], 2 * shape[0], filters, blocks)
        _initialise(self)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        mu, rho = self.trunk(seen).chunk(2, 1)
        return mu, rho


class PointGenerator(nn.Module):
    """What `generator_input` gives -> one perturbation in (-1, 1), [B, C, H, W], to be scaled by eps: the explicit
    generator's trunk without a distribution, for L2L."""

    def __init__(self, shape: Sequence[int], filters: int, blocks: Blocks) -> None:
        super().__init__()
        self.trunk = _trunk(3 * shape[0], shape[0], filters, blocks)
        _initialise(self)

    def forward(self, seen: Tensor) -> Tensor:
        return torch.tanh(self.trunk(seen))


class ImplicitGenerator(nn.Module):
    """What `generator_input` gives and z [B, `LATENT`] -> a perturbation in (-1, 1), [B, C, H, W], to be scaled by eps.

    z goes through fc 256, ReLU, fc H * W, ReLU (1024 in the paper) and enters the other generator's trunk as a channel.
    """

    def __init__(self, shape: Sequence[int], filters: int, blocks: Blocks) -> None:
        super().__init__()
        channels, height, width = shape
        self.encoder = nn.Sequential(
            nn.Linear(LATENT, 256),
            nn.ReLU(),
            nn.Linear(256, height * width),
            nn.ReLU(),
            nn.Unflatten(1, (1, height, width)),
        )
        self.trunk = _trunk(3 * channels + 1, channels, filters, blocks)
        _initialise(self)

    def forward(self, seen: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.trunk(torch.cat([seen, self.encoder(z)], 1)))


class Posterior(nn.Module):
    """A perturbation in (-1, 1) [B, C, H, W] and z [B, `LATENT`] -> log q(z | delta) of a diagonal Gaussian, the mean
    over z's dimensions [B].

    Convolutions 5x5, and 4x4 of stride 2, 1, 2, unpadded, with batch norm and LeakyReLU 0.01; global average pooling;
    a linear layer for the mean and the softplus of the variance. The last convolution has `filters` (the paper: 256),
    the others a half, a quarter and an eighth. Images below 32x32 are surrounded with zeros (ours; the paper has none).
    Weights start as in the code, by He et al.'s rule.
    """

    def __init__(self, shape: Sequence[int], filters: int) -> None:
        super().__init__()
        widths = [shape[0], *(max(filters // share, 1) for share in (8, 4, 2, 1))]
        layers: list[nn.Module] = []
        for i, (kernel, stride) in enumerate(((5, 1), (4, 2), (4, 1), (4, 2))):
            convolution = nn.Conv2d(widths[i], widths[i + 1], kernel, stride, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, nn.BatchNorm2d(widths[i + 1]), nn.LeakyReLU(0.01)]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 2 * LATENT)
        nn.init.zeros_(self.head.bias)
        down, right = (max(FIELD - side, 0) for side in shape[1:])
        self.margins = (right // 2, right - right // 2, down // 2, down - down // 2)

    def forward(self, delta: Tensor, z: Tensor) -> Tensor:
        mean, variance = self.head(self.trunk(F.pad(delta, self.margins)).mean((2, 3))).chunk(2, 1)
        return log_normal_density(z, mean, F.softplus(variance) + 1e-8).mean(1)


def log_normal_density(z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Of each dimension. E[log q(z | delta)] over z and the delta it makes is, up to a constant, a lower bound of
    delta's entropy (ADT, eq. 14), attained where q is the true posterior."""
    return -((z - mean).square() / variance + variance.log() + math.log(2 * math.pi)) / 2


def _trunk(channels: int, out: int, filters: int, blocks: Blocks) -> nn.Sequential:
    if filters < 8:
        raise UserError(f"expected filters of at least 8, got {filters}")
    wide = 2 * filters
    last = filters if blocks == "code" else wide
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
        BasicBlock(filters, wide, 1),
        BasicBlock(wide, wide, 1),
        BasicBlock(wide, last, 1),
        nn.Conv2d(last, out, 3, padding=1, bias=False),
    )


def _initialise(network: nn.Module) -> None:
    """N(0, 0.02), about 1 for the factors of batch norm; biases at 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, float(isinstance(layer, nn.BatchNorm2d)), 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
