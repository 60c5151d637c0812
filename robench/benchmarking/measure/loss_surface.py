"""The loss around an image, along its gradient and along a random direction (Dong et al. 2020, Figure 2a-e)."""

from typing import Any

import numpy as np
import torch

from robench.benchmarking.crafting import Examples
from robench.evaluation.evaluation import Evaluation
from robench.losses import cross_entropy
from robench.search.classifier import full_precision
from robench.search.rng import Draws
from robench.utils.errors import UserError
from robench.utils.global_rng import reproducible, undisturbed
from robench.utils.sizes import Size, parse_size


def measure(evaluation: Evaluation, *, image: int = 1, radius: Size = "eps", points: int = 41) -> dict[str, Any]:
    """The cross-entropy at x + a sign(gradient) + b r for a and b in [-radius, radius], r uniform in {-1, 1}^d.

    The sign, so that both directions have the same length in l-infinity and in l2, is ours: the paper says only the
    gradient direction. The points may leave the box, where a plane would have an edge. `image` counts from 1 in the
    data set's order. label: the image's; radius: its value; loss[i][j]: at a_i and b_j, the `points` values of each
    evenly spaced.
    """
    if image > len(evaluation.split):
        raise UserError(f"expected an image among the {len(evaluation.split)} of the data set, got number {image}")
    classifier = evaluation.judges(evaluation.device)[1].classifier
    examples = Examples.of(evaluation, [image - 1])
    x, y = examples.x, examples.y
    draws = Draws(evaluation.seed, examples.rows, x.device)
    reach = parse_size(radius, evaluation.threat.eps)
    along = torch.linspace(-reach, reach, points, device=x.device)
    with undisturbed(x.device), reproducible(evaluation.seed), full_precision():
        _, gradient = classifier.logits_and_gradient(x, y, cross_entropy)
        a, b = torch.meshgrid(along, along, indexing="ij")
        random = draws.signs("loss surface", x.shape[1:])
        plane = x + a.reshape(-1, 1, 1, 1) * gradient.sign() + b.reshape(-1, 1, 1, 1) * random
        with torch.no_grad():
            logits = torch.cat([classifier.logits(part) for part in torch.split(plane, evaluation.batch_size)])
    loss = cross_entropy(logits, y.expand(len(logits))).view(points, points)
    return {"images": 1, "label": int(y), "radius": reach, "loss": np.round(loss.double().cpu().numpy(), 6).tolist()}
