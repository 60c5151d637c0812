"""Shorter runs that a longer one holds."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from robench.search.catalog import attack
from robench.search.classifier import Classifier
from robench.search.fast.tuning import Tuning
from robench.search.judge import Judge
from robench.search.outcome import Outcome
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from tests.helpers import Trained, linear_case


@pytest.mark.parametrize("family", ["pgd", "mim", "cw"])
@pytest.mark.parametrize("patience", [1, 4])
def test_the_beginning_of_a_longer_run_is_the_shorter_run(digits_model: Trained, family: str, patience: int) -> None:
    split, threat = digits_model.split, ThreatModel.of("linf", 0.08)
    x, y = split.floats(slice(80)), split.labels[:80]

    def searched(steps: int, beginnings: Sequence[int] = ()) -> tuple[Search, Outcome]:
        classifier = Classifier(digits_model.model, tuning=Tuning(patience=patience))
        draws, judge = Draws(0, np.arange(80), x.device), Judge(classifier, threat)
        search = Search(classifier, judge, threat, x, y, draws, prefixes=beginnings)
        return search, search.run(attack(f"{family}:steps={steps}"))

    longer, outcome = searched(13, (4, 9))
    alone = {steps: searched(steps)[1] for steps in (4, 9, 13)}
    found = {**longer.prefix_outcomes, 13: outcome}
    assert int(alone[4].fooled.sum()) < int(alone[13].fooled.sum()) < 80
    for steps, expected in alone.items():
        for name in ("fooled", "kept", "margin", "first_step", "invalid", "forwards", "backwards"):
            assert torch.equal(getattr(found[steps], name), getattr(expected, name)), (steps, name)
        assert torch.equal(found[steps].verdicts.margin, expected.verdicts.margin)


def test_beginnings_that_a_run_does_not_reach_are_its_end() -> None:
    model, x, y = linear_case(2)
    classifier, threat = Classifier(model), ThreatModel.of("linf", 0.5)
    draws = Draws(0, np.arange(len(x)), x.device)
    search = Search(classifier, Judge(classifier, threat), threat, x, y, draws, prefixes=(50,))
    outcome = search.run(attack("pgd-100"))
    assert outcome.fooled.all()
    assert search.prefix_outcomes[50] is outcome
