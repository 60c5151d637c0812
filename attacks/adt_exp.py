"""The explicit distribution of ADT, as an attack."""

import torch
import torch.nn.functional as F

from robench.losses import cross_entropy
from robench.search import Search, sees

REFERENCE_BATCH = 64
"""The paper's batch size; Adam's epsilon is not free of scale, so the objective is always divided by it."""


@sees("gradients", norms=["linf"])
def adt_exp(
    search: Search,
    *,
    steps: int = 20,
    samples: int = 10,
    draws: int = 10,
    entropy_weight: float = 0.01,
    lr: float = 0.3,
) -> None:
    """Learns where around each example the loss is high on average, then draws from there (Dong et al. 2020, Table 4).

    delta = eps * tanh(mu + sigma * r), r ~ N(0, I), sigma = softplus(rho), from mu = rho = 0; Adam with betas (0, 0)
    raises the mean cross-entropy of `samples` draws plus `entropy_weight` times the entropy per dimension. The paper
    does not say how many draws it scores: `draws` of them are offered, each draw on the way is a candidate as well.
    """
    zero = torch.zeros_like(search.x)
    at = search.state(mu=zero, rho=zero)
    for step in search.steps(steps):
        noise = search.draws.normal("noise", (samples, *search.shape), step)
        sigma = F.softplus(at.rho)
        tanh = torch.tanh(at.mu[:, None] + sigma[:, None] * noise)
        points = search.x[:, None] + search.eps * tanh
        inside = (points >= search.threat.low) & (points <= search.threat.high)  # no slope where the box cuts
        gradient = search.gradient(points.clamp(search.threat.low, search.threat.high), cross_entropy)
        rise = gradient * inside * search.eps * (1 - tanh.square())
        spread = -2 * tanh * entropy_weight / zero[0].numel()  # d log(1 - tanh(u)^2) / du
        of_mu = (rise + spread).mean(1)
        of_sigma = ((rise + spread) * noise).mean(1) + entropy_weight / zero[0].numel() / sigma
        at.mu = at.mu + lr * _adam(of_mu)
        at.rho = at.rho + lr * _adam(of_sigma * torch.sigmoid(at.rho))
    noise = search.draws.normal("noise", (draws, *search.shape), steps)
    points = search.x[:, None] + search.eps * torch.tanh(at.mu[:, None] + F.softplus(at.rho)[:, None] * noise)
    search.offer(points.clamp(search.threat.low, search.threat.high))


def _adam(gradient: torch.Tensor) -> torch.Tensor:
    """Adam's direction without memory."""
    scaled = gradient / REFERENCE_BATCH
    return scaled / (scaled.abs() + 1e-8)
