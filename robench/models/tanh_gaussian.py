"""A distribution over the l-infinity ball with a density: eps * tanh of a diagonal Gaussian (Dong et al. 2020, eq. 8).

delta = eps * tanh(mu + sigma * r), r ~ N(0, I), sigma = softplus(rho); mu and rho are shaped like the images.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def perturbed(x: Tensor, noise: Tensor, mu: Tensor, rho: Tensor, eps: float) -> Tensor:
    """x + delta in the box, for the draws r = `noise`; noise [k, B, ...] gives [k, B, ...]."""
    return (x + eps * torch.tanh(mu + F.softplus(rho) * noise)).clamp(0, 1)


def negative_log_density(noise: Tensor, mu: Tensor, rho: Tensor, eps: float) -> Tensor:
    """-log p(delta) of each dimension at the draws `noise` [k, B, ...]; its expectation is the entropy (eq. 11)."""
    sigma = F.softplus(rho)
    u = mu + sigma * noise
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log(1 - tanh(u)^2), without cancellation
    return noise.square() / 2 + math.log(2 * math.pi) / 2 + sigma.log() + log_slope + math.log(eps)
