"""How far apart a defense keeps its particles and an attack's restarts end, against their number (ALD, Figure 2)."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from robench.benchmarking.crafting import Examples, NamedAttack, NamedDefense, ends, fooled, pair_distances, particles
from robench.evaluation.evaluation import Evaluation


def measure(
    evaluation: Evaluation,
    *,
    attacks: dict[str, NamedAttack],
    defenses: dict[str, NamedDefense],
    counts: list[int] = [2, 4, 8, 16, 24, 32],  # noqa: B006
    runs: int = 3,
    images: int = 10,
) -> dict[str, Any]:
    """An attack's n points are its first n restarts; a defense's particles are made anew for each of the `counts` n.

    The paper calls the sum of squared errors between particles what its figure shows, which hardly changes with n, so
    that it is no sum over pairs: here it is the squared l2 distance, summed over pixels, averaged over the pairs and
    the first `images` images. methods: by name, for each of the counts, `squared` of each run and the share `fooled`
    of all particles that are adversarial. A run has its own random starts.
    """
    examples = Examples.of(evaluation, evaluation.wanted[:images])
    seeds = [evaluation.seed + run for run in range(runs)]
    methods = {}
    for name, attack in attacks.items():
        many = replace(attack, restarts=max(counts))
        ended = [ends(evaluation, many, examples, seed) for seed in seeds]
        methods[name] = _reading(evaluation, examples, [[points[:, :count] for points in ended] for count in counts])
    for name, defense in defenses.items():
        made = [[particles(evaluation, defense, examples, count, seed) for seed in seeds] for count in counts]
        methods[name] = _reading(evaluation, examples, made)
    return {"images": len(examples.y), "counts": counts, "methods": methods}


def _reading(evaluation: Evaluation, examples: Examples, points: list[list[Tensor]]) -> dict[str, Any]:
    """Of the points [B, n, ...] for each count and run."""
    shares = [[fooled(evaluation, run, examples) for run in runs] for runs in points]
    return {
        "squared": [[float(pair_distances(run).square().mean()) for run in runs] for runs in points],
        "fooled": [sum(share) / len(share) for share in shares],
    }
