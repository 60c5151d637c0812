"""How curved the loss is around the images: the dominant eigenvalue of its Hessian (Dong et al. 2020, Figure 2f)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robench.benchmarking.crafting import Examples
from robench.evaluation.evaluation import Evaluation
from robench.losses import cross_entropy
from robench.search.classifier import Classifier
from robench.search.rng import Draws
from robench.threat import per_example
from robench.utils.global_rng import reproducible, undisturbed


def measure(evaluation: Evaluation, *, iterations: int = 100, tolerance: float = 0.01) -> dict[str, Any]:
    """Of the Hessian of the cross-entropy with respect to the pixels, at each image as it is.

    images: how many; eigenvalues: image by image, with their signs; converged: how many met the tolerance. Dominant is
    the largest in absolute value, as is usual; the paper does not say. Where logits are piecewise linear in the pixels
    (ReLU, max-pooling, fixed batch norm) the Hessian has no negative eigenvalue, so that it is the largest as well. In
    float64: where the softmax saturates, float32 loses the curvature among its rounding.
    """
    seen = evaluation.judges(evaluation.device)[1].classifier
    classifier = Classifier(seen.model.double(), seen.device, seen.draws)
    eigenvalues: list[float] = []
    converged = 0
    for examples in Examples.batches(evaluation):
        start = Draws(evaluation.seed, examples.rows, examples.x.device).normal("curvature", examples.x.shape[1:])
        with undisturbed(start.device), reproducible(evaluation.seed):
            product = hessian_product(classifier.logits, examples.x.double(), examples.y)
            found, settled = dominant_eigenvalue(product, start.double(), iterations, tolerance)
        eigenvalues += found.tolist()
        converged += int(settled.sum())
    return {"images": len(eigenvalues), "eigenvalues": eigenvalues, "converged": converged}


def hessian_product(logits: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """v [B, ...] -> H v, H being the Hessian of each example's own cross-entropy at x [B, ...]; one backward pass
    through the graph of the gradient, which is built here, once."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(logits(x), y).sum(), x, create_graph=True)
    return lambda v: torch.autograd.grad(gradient, x, v, retain_graph=True)[0]


def dominant_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The eigenvalue [B] of largest absolute value of symmetric operators, and whether it converged [B].

    Power iteration v <- H v / |H v| from `start` [B, ...]; the value is Rayleigh's quotient v . H v, with its sign. It
    has converged when |H v - value v| <= tolerance * |value|: then an eigenvalue lies within that distance. Ends when
    all have, or after so many iterations.
    """
    v = _unit(start)
    for _ in range(iterations):
        image = product(v)
        value = (v * image).flatten(1).sum(1)
        residual = torch.linalg.vector_norm((image - per_example(value, v) * v).flatten(1), dim=1)
        converged = residual <= tolerance * value.abs()
        if converged.all():
            break
        v = torch.where(per_example(converged, v), v, _unit(image))
    return value, converged


def _unit(v: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return v / per_example(length.clamp(min=torch.finfo(v.dtype).tiny), v)
