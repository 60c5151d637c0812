"""Attacks of foolbox by their names there: what foolbox gives when it is called directly."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import foolbox
import numpy as np
import pytest
import torch

from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.search.catalog import attack
from robench.search.cost import passes_of
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.helpers import Ran, Trained, hadamard_case, minimal_eps, run_attack


@pytest.mark.parametrize(
    ("written", "library", "norm", "eps"),
    [
        ("LinfPGD:steps=20,rel_stepsize=0.1", foolbox.attacks.LinfPGD(steps=20, rel_stepsize=0.1), "linf", 0.07),
        ("L2PGD", foolbox.attacks.L2PGD(), "l2", 0.5),
        ("DDNAttack:steps=30", foolbox.attacks.DDNAttack(steps=30), "l2", 0.5),
    ],
)
def test_it_agrees_with_foolbox_example_by_example(
    written: str, library: foolbox.attacks.Attack, norm: str, eps: float, digits_model: Trained
) -> None:
    x, y = digits_model.split.floats(slice(60)), digits_model.split.labels[:60]
    outcome = run_attack(f"foolbox:{written}", digits_model.model, x, y, ThreatModel.of(norm, eps), seed=4)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        _, _, success = library(foolbox.PyTorchModel(digits_model.model, bounds=(0, 1)), x, y, epsilons=eps)
    assert 5 < int(success.sum()) < 55
    assert torch.equal(outcome.fooled, success)
    assert not outcome.invalid.any()


@pytest.mark.parametrize(
    ("written", "norm"),
    [
        pytest.param("HopSkipJumpAttack:steps=40", "linf", marks=pytest.mark.slow),
        ("L2DeepFoolAttack", "l2"),
        ("LinfDeepFoolAttack", "linf"),
    ],
)
def test_an_attack_that_minimises_reaches_the_boundary_and_is_valid_where_it_does_not(written: str, norm: str) -> None:
    model, x, y = hadamard_case(examples=6)
    radius = minimal_eps(model, x, y, norm)
    near = run_attack(f"foolbox:{written}", model, x, y, ThreatModel.of(norm, 1.2 * float(radius.max())))
    assert near.fooled.all()
    short = run_attack(f"foolbox:{written}", model, x, y, ThreatModel.of(norm, 0.9 * float(radius.min())))
    assert not short.fooled.any()
    assert not short.invalid.any()


def test_a_boundary_attack_runs_and_its_passes_can_be_counted() -> None:
    model, x, y = hadamard_case(examples=3)
    threat = ThreatModel.of("l2", 4.0)
    assert run_attack("foolbox:BoundaryAttack:steps=50", model, x, y, threat).fooled.all()
    assert passes_of(attack("foolbox:BoundaryAttack:steps=50"), ThreatModel.of("l2", 0.1), x[:1], 10, None, 0)[0] > 50
    assert passes_of(attack("foolbox:LinfPGD:steps=7"), ThreatModel.of("linf", 0.1), x[:1], 10, None, 0) == (9, 7)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("foolbox:LinfPDG", "unknown attack of foolbox 'LinfPDG'; did you mean 'LinfPGD'"),
        ("foolbox:LinfPGD:stpes=3", "unknown setting 'stpes'; did you mean 'steps'"),
        ("foolbox:LinfPGD:steps=many", "valid integer"),
        ("foolbox:VirtualAdversarialAttack", "the setting steps has no default"),
        ("foolbox:EADAttack", "measures L1 distance"),
        ("foolbox:SpatialAttack", "measures no distance"),
        ("foolbox:LinfinityBrendelBethgeAttack", "bb runs it"),
        ("foolbox:GenAttack", "needs target classes"),
        ("pgd:LinfPGD", "no family"),
        ("foolbax:LinfPGD", "unknown attack 'foolbax:LinfPGD'"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence(written: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        attack(written)
    assert "\n" not in str(caught.value)


def test_a_norm_that_does_not_fit_is_refused(digits_model: Trained) -> None:
    with pytest.raises(UserError, match="foolbox:DDNAttack cannot be run: it is defined for l2, not for linf"):
        plan_evaluation(digits_model.model, EvaluationOptions(attacks=["foolbox:DDNAttack"], eps=0.1))


def test_a_wrong_name_exits_with_2(robench: Callable[..., Ran], in_tmp: Path) -> None:
    ran = robench("show", "attack", "foolbox:LinfPDG")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert "steps: 40" in robench("show", "attack", "foolbox:LinfPGD").out


def test_the_key_tells_attack_options_and_version(digits_model: Trained) -> None:
    keys = [
        attack(f"foolbox:{written}").key()
        for written in ("LinfPGD", "PGD", "LinfPGD:steps=3", "LinfFastGradientAttack")
    ]
    assert keys[0] == keys[1]  # two names of one class
    assert len({str(key) for key in keys}) == 3
    assert keys[0]["libraries"] == {"foolbox": foolbox.__version__}
    planned = plan_evaluation(
        digits_model.model, EvaluationOptions(attacks=["foolbox:LinfPGD"], eps=0.1, batch_size=8, n=16)
    )
    assert planned.key(planned.attacks[0])["attack"]["batch_size"] == 8


def test_restarts_differ_and_global_random_states_are_left_alone(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(8)), digits_model.split.labels[:8]

    def states() -> list[object]:
        return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(), sys.gettrace()]  # type: ignore[index]

    before = states()
    one = run_attack("foolbox:LinfPGD", digits_model.model, x, y, ThreatModel.of("linf", 0.01))
    other = run_attack("foolbox:LinfPGD", digits_model.model, x, y, ThreatModel.of("linf", 0.01), seed=1)
    again = run_attack("foolbox:LinfPGD", digits_model.model, x, y, ThreatModel.of("linf", 0.01))
    assert states() == before
    assert torch.equal(one.kept, again.kept)
    assert not torch.equal(one.kept, other.kept)


def test_listing_attacks_does_not_import_it() -> None:
    program = (
        "import sys; from robench.cli import catalogue; catalogue.listing('attacks'); print('foolbox' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
