"""Adversarial examples of one image, by an attack's restarts and by a defense's particles (ALD, Figure 1)."""

from typing import Any

import numpy as np
from torch import Tensor

from robench.benchmarking.crafting import Examples, NamedAttack, NamedDefense, ends, pair_distances, particles
from robench.evaluation.evaluation import Evaluation
from robench.utils.errors import UserError


def measure(
    evaluation: Evaluation,
    *,
    attacks: dict[str, NamedAttack],
    defenses: dict[str, NamedDefense],
    image: int = 1,
    count: int = 3,
) -> dict[str, Any]:
    """`image` counts from 1 in the data set's order; `count`: particles of each defense.

    label: the image's; x: its pixels [C][H][W]; of each method, by its name: points [k][C][H][W], their predictions
    and the mean squared l2 distance between two of them.
    """
    if image > len(evaluation.split):
        raise UserError(f"expected an image among the {len(evaluation.split)} of the data set, got number {image}")
    examples = Examples.of(evaluation, [image - 1])
    made = {name: ends(evaluation, attack, examples, evaluation.seed) for name, attack in attacks.items()}
    for name, defense in defenses.items():
        made[name] = particles(evaluation, defense, examples, count, evaluation.seed)
    judge = evaluation.judges(examples.x.device)[0]
    methods = {}
    for name, points in made.items():
        verdicts = judge(points[0], examples.x.expand_as(points[0]), examples.y.expand(points.shape[1]))
        squared = float(pair_distances(points).square().mean())
        methods[name] = {"points": _pixels(points[0]), "predictions": verdicts.prediction.tolist(), "squared": squared}
    return {"images": 1, "label": int(examples.y), "x": _pixels(examples.x[0]), "methods": methods}


def _pixels(images: Tensor) -> Any:
    return np.round(images.double().cpu().numpy(), 5).tolist()
