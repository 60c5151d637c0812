"""A little network, a batch for it, and what the tests of losses need around them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robench.threat import ThreatModel
from robench.training.defense import Batch, Defense, Step
from robench.training.recipe import configure, defense_class

THREAT = ThreatModel.of("linf", 0.1)


class Net(nn.Module):
    """A smooth little network with batch norm and dropout, so that a wrong mode shows; every pass is counted."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.3))
        self.head = nn.Linear(12, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(3)
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.head(self.body(x))  # type: ignore[no-any-return]


def make(name: str, **settings: Any) -> Defense:
    return configure(defense_class(name), settings, name)


def batch(size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(size, 1, 4, 4, generator=generator)
    return Batch(x, torch.randint(3, (size,), generator=generator))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def loss_of(defense: Defense, model: nn.Module | None = None, threat: ThreatModel = THREAT) -> tuple[Tensor, Step]:
    """The model's loss, with dropout's draws fixed."""
    model = model or Net()
    step = Step({"model": model.train()}, threat, generator(), 0.0)
    torch.manual_seed(3)
    return defense.losses(batch(), step)["model"], step


def reference_ascent(
    model: nn.Module, x: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor], steps: int, size: float
) -> Tensor:
    model.eval()
    x_adv = start
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(model(x_adv)).sum(), x_adv)
        x_adv = (x_adv.detach() + size * gradient.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    model.train()
    torch.manual_seed(3)
    return x_adv.detach()


def kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    p = p_logits.softmax(1)
    return (p * (p.log() - q_logits.softmax(1).log())).sum(1)
