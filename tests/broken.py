"""Defenses that do not defend, each by hiding the gradient in its own way, around a model that falls to plain PGD."""

import torch
from torch import Tensor, nn


class Around(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Quantised(Around):
    """8 grey levels, by a rounding that has no slope."""

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x * 7).round() / 7)  # type: ignore[no-any-return]


class Scaled(Around):
    """Logits so large that the cross-entropy is 0 to the last bit."""

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.model(x)  # type: ignore[no-any-return]


class Rippled(Around):
    """Small fast waves on the logits, whose slope drowns that of the model; with `sigma`, behind noise that averages
    them away for whoever takes the mean over draws."""

    def __init__(self, model: nn.Module, sigma: float = 0.0, height: float = 0.1) -> None:
        super().__init__(model)
        self.sigma, self.height = sigma, height
        signs = torch.rand(64, 10, generator=torch.Generator().manual_seed(1)) < 0.5
        self.signs = nn.Parameter(2 * signs.float() - 1, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.sigma:
            x = x + self.sigma * torch.randn_like(x)
        return self.model(x) + self.height * torch.sin(100 * x.flatten(1)) @ self.signs  # type: ignore[no-any-return]
