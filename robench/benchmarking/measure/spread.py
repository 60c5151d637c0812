"""How far apart the adversarial examples lie that an attack makes of one image (Dong et al. 2020, Figure 1)."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from robench.benchmarking.crafting import Examples, NamedAttack, ends, fooled, pair_distances
from robench.evaluation.evaluation import Evaluation


def measure(evaluation: Evaluation, *, attacks: dict[str, NamedAttack], shown: int = 4) -> dict[str, Any]:
    """An attack gives one point of an image for each restart, or as many as it draws at its end.

    images: how many; distances: by attack, the mean l2 between two points of an image, image by image; fooled: by
    attack, the share of points that are adversarial. shown: of the first images, the points of all attacks along the
    first two principal components of them together, the image itself at `origin`, and the share of their variance that
    each of the two explains.
    """
    distances: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, list[float]] = defaultdict(list)
    plane = []
    for examples in Examples.batches(evaluation):
        points = {name: ends(evaluation, attack, examples, evaluation.seed) for name, attack in attacks.items()}
        for name, of_attack in points.items():
            distances[name] += pair_distances(of_attack).mean(1).tolist()
            shares[name].append(fooled(evaluation, of_attack, examples) * len(of_attack))
        for place, row in enumerate(row for row in examples.rows.tolist() if row < shown):
            of_image = {name: of_attack[place] for name, of_attack in points.items()}
            plane.append({"row": row, "label": int(examples.y[place]), **principal(examples.x[place], of_image)})
    return {
        "images": len(evaluation.wanted),
        "distances": dict(distances),
        "fooled": {name: sum(share) / len(evaluation.wanted) for name, share in shares.items()},
        "shown": plane,
    }


def principal(x: Tensor, points: dict[str, Tensor]) -> dict[str, Any]:
    """Points [k, ...] of an image x along the two directions in which all of them together vary most; each direction
    is signed so that its largest component is positive."""
    everything = torch.cat(list(points.values())).flatten(1).double()
    centre = everything.mean(0)
    _, scales, directions = torch.linalg.svd(everything - centre, full_matrices=False)
    directions = directions[:2]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * largest.sign()

    def place(images: Tensor) -> Any:
        return ((images.flatten(1).double() - centre) @ directions.T).tolist()

    return {
        "explained": (scales.square() / scales.square().sum())[:2].tolist(),
        "origin": place(x[None])[0],
        "points": {name: place(images) for name, images in points.items()},
    }
