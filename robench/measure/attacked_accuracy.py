"""The accuracy on attacked images, whatever became of the clean ones."""

from dataclasses import replace
from typing import Any

import torch

from robench.battery import attack
from robench.draws import Draws
from robench.evaluation import Evaluation
from robench.search import Search


def measure(evaluation: Evaluation, *, attacks: list[str]) -> dict[str, Any]:
    """The static protocol as ATLD's scripts count it: each attack runs on every example against the model without its
    test-time transform, and what it ends in is classified by the model with it.

    Gives for each attack the number of examples classified correctly and of all; nothing for a model without a
    transform. It can exceed the clean accuracy, and is no robust accuracy.
    """
    if evaluation.subject.bare is None:
        return {"attacks": {}}
    device = torch.device(evaluation.device)
    deployed, seen = replace(evaluation, protocol="static").judges(device)
    counts = {}
    for name in attacks:
        right = 0
        for begin in range(0, len(evaluation.wanted), evaluation.batch_size):
            ids = range(len(evaluation.wanted))[begin : begin + evaluation.batch_size]
            x = evaluation.split.floats(slice(ids.start, ids.stop)).to(device)
            y = evaluation.split.labels[ids.start : ids.stop].to(device)
            draws = Draws(evaluation.seed, torch.arange(ids.start, ids.stop).numpy(), device)
            search = Search(
                seen.classifier, seen, evaluation.threat, x, y, draws, access=attack(name).access, drop=False
            )
            x_adv = search.run(attack(name), attack(name).restarts).last
            right += int((deployed(x_adv, x, y).prediction == y).sum())
        counts[name] = [right, len(evaluation.wanted)]
    return {"attacks": counts}
