"""SPSA: gradients from scores alone."""

import torch

from robench.losses import margin
from robench.search import Search, sees
from robench.utils.errors import UserError


@sees("scores", stops=True, unsaturated=True)
def spsa(search: Search, *, evaluations: int = 256, steps: int = 100, delta: float = 0.001, lr: float = 0.01) -> None:
    """Climbs the margin along a gradient estimated by finite differences (Uesato et al. 2018).

    Each step spends `evaluations` queries, half as many antithetic pairs x +- delta * v of random signs v, and moves by
    Adam from x itself, projected each time. delta and lr are in the units of the pixels. It is not a search of the
    decision boundary: it needs logits.
    """
    if evaluations < 2 or delta <= 0:
        raise UserError(f"spsa needs evaluations of at least 2 and a delta above 0, got {evaluations} and {delta}")
    pairs = evaluations // 2
    zero = torch.zeros_like(search.x)
    at = search.state(x=search.x, mean=zero, square=zero, estimate=zero)
    for step in search.steps(steps):
        at.estimate = torch.zeros_like(at.x)
        for group in search.groups(pairs):
            numbers = (step * pairs + pair for pair in group)
            signs = torch.stack([search.draws.signs("direction", search.shape, number) for number in numbers], 1)
            above, below = (search.value(at.x[:, None] + side * delta * signs, margin) for side in (1, -1))
            rise = above - below
            slopes = torch.einsum("bk,bkd->bd", rise / (2 * delta), signs.flatten(2))
            at.estimate = at.estimate + slopes.view_as(at.x) / pairs
        at.mean = 0.9 * at.mean + 0.1 * at.estimate
        at.square = 0.999 * at.square + 0.001 * at.estimate.square()
        deviation = (at.square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        at.x = search.project(at.x + lr * at.mean / (1 - 0.9 ** (step + 1)) / deviation)
        search.offer(at.x)
