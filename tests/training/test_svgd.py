"""Stein variational gradient descent against a double loop."""

import math

import pytest
import torch

from robench.training.svgd import Bandwidth, Kernel, Scope, svgd
from robench.utils.errors import UserError
from tests.toy import make


@pytest.mark.parametrize("scope", ["example", "batch"])
@pytest.mark.parametrize("bandwidth", ["paper", 0.3])
def test_svgd_against_a_double_loop(scope: Scope, bandwidth: Bandwidth) -> None:
    n, size = 3, 4
    x_adv = torch.rand(n * size, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.02
    gradient = torch.randn(n * size, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigma = 10.0 ** (1 - n) if bandwidth == "paper" else float(bandwidth)
    phi, kernel = Kernel(n, scope, bandwidth).steer(x_adv, gradient)
    particles, slopes = x_adv.flatten(1), gradient.flatten(1)
    expected = torch.zeros_like(particles)
    between = []
    for i in range(n * size):
        partners = [j for j in range(n * size) if scope == "batch" or j % size == i % size]
        for j in partners:
            k = torch.exp(-(particles[i] - particles[j]).square().sum() / (2 * sigma**2))
            grad_k = -(particles[j] - particles[i]) / sigma**2 * k  # d k(x_j, x_i) / d x_j
            expected[i] += (k * slopes[j] + grad_k) / len(partners)
            if i != j:
                between.append(float(k))
    assert torch.allclose(phi.flatten(1), expected, rtol=1e-8, atol=1e-10)
    assert float(kernel) == pytest.approx(sum(between) / len(between))
    if bandwidth == 0.3:
        assert float(kernel) > 0.5  # the kernel matters here


def test_svgd_drives_particles_apart_and_survives_a_tiny_bandwidth() -> None:
    particles = torch.tensor([[[0.0, 0.0], [0.1, 0.0]]])
    phi, _ = svgd(particles, torch.zeros_like(particles), torch.tensor(0.1))
    assert phi[0, 0, 0] < 0 < phi[0, 1, 0]
    phi, kernel = svgd(particles, torch.ones_like(particles), torch.tensor(1e-31))
    assert torch.allclose(phi, torch.full_like(phi, 0.5))
    assert kernel == 0


def test_the_median_bandwidth() -> None:
    particles = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 2.0]]])
    sigma = Kernel(2, bandwidth="median").sigma(particles)
    for group, distance in enumerate((5.0, 2.0)):
        assert float(sigma[group]) == pytest.approx(distance / math.sqrt(2 * math.log(3)))
    with pytest.raises(UserError, match="bandwidth above 0"):
        make("ald", bandwidth=0)
