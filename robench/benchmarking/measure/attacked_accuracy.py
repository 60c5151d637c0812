"""The accuracy on attacked images, whatever became of the clean ones."""

from dataclasses import replace
from typing import Any

from robench.benchmarking.crafting import Examples, NamedAttack, ends
from robench.evaluation.evaluation import Evaluation


def measure(evaluation: Evaluation, *, attacks: list[NamedAttack]) -> dict[str, Any]:
    """The static protocol as ATLD's scripts count it: each attack runs on every example against the model without its
    test-time transform, and what it ends in is classified by the model with it.

    Gives for each attack the number of examples classified correctly and of all; nothing for a model without a
    transform. It can exceed the clean accuracy, and is no robust accuracy.
    """
    if evaluation.subject.undefended is None:
        return {"attacks": {}}
    static = replace(evaluation, protocol="static")
    deployed, _ = static.judges(static.device)
    counts = {}
    for attack in attacks:
        right = 0
        for examples in Examples.batches(static):
            x_adv = ends(static, attack, examples, static.seed)[:, -1]
            right += int((deployed(x_adv, examples.x, examples.y).prediction == examples.y).sum())
        counts[attack.name] = [right, len(static.wanted)]
    return {"attacks": counts}
