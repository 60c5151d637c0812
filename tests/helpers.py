"""Models whose worst case is known in closed form, and attacks run on them with nothing around."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robench.data import datasets
from robench.search.catalog import attack
from robench.search.classifier import Classifier, shown_layers
from robench.search.declaration import Task
from robench.search.judge import Judge
from robench.search.outcome import Outcome
from robench.search.resources import Images, Resources, Sources, TrainingImages
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel


class Linear(nn.Module):
    """Logits W x + b of flattened images."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.layer.weight.copy_(weight)
            self.layer.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))  # type: ignore[no-any-return]


def linear_case(classes: int, examples: int = 12, seed: int = 0) -> tuple[Linear, Tensor, Tensor]:
    """A random linear model of 1x4x4 images near the middle of the box, and their own predictions as labels."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 16, generator=generator)
    model = Linear(weight, -0.5 * weight.sum(1))
    x = 0.5 + 0.02 * torch.randn(examples, 1, 4, 4, generator=generator)
    return model, x, model(x).argmax(1).detach()


def hadamard_case(examples: int = 20) -> tuple[Linear, Tensor, Tensor]:
    """A 10-class linear model whose classes are all equally far apart in every norm: the nearest is the runner-up."""
    signs = torch.ones(1, 1)
    while len(signs) < 16:
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    model = Linear(signs[1:11], torch.zeros(10))
    x = 0.5 + 0.02 * torch.randn(examples, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return model, x, model(x).argmax(1).detach()


def minimal_eps(model: Linear, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """The distance from each x to the nearest other class: the closed form for a linear model."""
    weight, logits = model.layer.weight.detach(), model(x).detach()
    gap = logits.gather(1, y[:, None]) - logits
    slope = weight[y][:, None] - weight[None]
    length = slope.abs().sum(2) if norm == "linf" else torch.linalg.vector_norm(slope, dim=2)
    distance: Tensor = gap / length
    distance[torch.arange(len(y)), y] = torch.inf
    return distance.amin(1)


def equidistant(model: Linear, x: Tensor, norm: str) -> tuple[Tensor, Tensor, float]:
    """The half of these images that is farther from another class, moved towards grey, where the logits of the models
    above are equal, until all are equally far; their labels and that distance. So one batch tells of all of them."""
    y = model(x).argmax(1)
    distances = minimal_eps(model, x, y, norm)
    eps = distances.median()
    far = distances >= eps
    x = 0.5 + (x[far] - 0.5) * (eps / distances[far])[:, None, None, None]
    return x, y[far], float(eps)


def run_attack(
    name: str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    ids: Sequence[int] | None = None,
    seed: int = 0,
    drop: bool = True,
    batch_size: int = 128,
    images: Images | None = None,
    sources: Sequence[nn.Module] = (),
    training: TrainingImages | None = None,
) -> Outcome:
    """One attack on examples `ids` (by default 0, 1, ...) with nothing around it."""
    classifier = Classifier(model)
    draws = Draws(seed, np.arange(len(x)) if ids is None else np.array(ids), x.device)
    judge = Judge(classifier, threat)
    lent = Resources(images, Sources(tuple(map(Classifier, sources))) if sources else None, training)
    configured = attack(name)
    if configured.declaration.parts:
        with torch.no_grad():
            classes = model(x[:1].clone()).shape[1]
        task = Task(threat.norm, "gradients", classes, x.shape[1:], shown_layers(model), lent.kinds)
        configured = configured.fitted(task)
    search = Search(
        classifier,
        judge,
        threat,
        x,
        y,
        draws,
        access=configured.access,
        drop=drop,
        batch_size=batch_size,
        resources=lent,
    )
    return search.run(configured, configured.restarts)


@dataclass(frozen=True)
class Trained:
    model: nn.Module
    split: datasets.Split


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def correct(trained: Trained, count: int) -> tuple[Tensor, Tensor]:
    x, y = trained.split.floats(slice(200)), trained.split.labels[:200]
    right = trained.model(x).argmax(1) == y
    return x[right][:count], y[right][:count]


def search_of(trained: Trained, count: int, eps: float, drop: bool = True) -> Search:
    x, y = correct(trained, count)
    classifier, threat = Classifier(trained.model), ThreatModel.of("linf", eps)
    return Search(classifier, Judge(classifier, threat), threat, x, y, Draws(0, np.arange(count), x.device), drop=drop)


def adversary(model: Linear, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The worst case of a binary linear model."""
    weight = model.layer.weight.detach()
    return x - eps * (weight[y] - weight[1 - y]).sign().view_as(x)


def with_statistics(model: nn.Module) -> nn.Module:
    """In evaluation mode, its norms as if they had been trained."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
                (module.weight, 0.5, 2),
            ):
                tensor.data.uniform_(low, high, generator=generator)
            module.bias.data.uniform_(-1, 1, generator=generator)
    return model.eval().requires_grad_(False)


def images(shape: tuple[int, ...], count: int = 16) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(2))
