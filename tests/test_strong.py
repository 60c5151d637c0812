"""The suite `strong` and what it is made of: closed forms, the library's Auto-PGD, and themselves in other batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor

from robench.access import sees
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import evaluate, run
from robench.ledger.per_example import tally
from robench.ledger.store import Ledger
from robench.losses import dlr, margin, others, targeted_margin
from robench.search.catalog import attack, suite
from robench.search.classifier import Classifier
from robench.search.judge import Judge
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils import registry
from tests.helpers import Linear, Trained, hadamard_case, linear_case, minimal_eps, run_attack

IN_TURN = "in_turn:first=fgsm,then=squares"
CLIMBING = ["apgd:steps=20", "apgd:steps=20,loss=margin", "apgd:steps=20,targets=3", "multi_targeted"]
ALL = [*CLIMBING, "squares:queries=800", IN_TURN, "apgd-squares"]


def correct(trained: Trained, count: int) -> tuple[Tensor, Tensor]:
    x, y = trained.split.floats(slice(200)), trained.split.labels[:200]
    right = trained.model(x).argmax(1) == y
    return x[right][:count], y[right][:count]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", CLIMBING)
def test_gradients_reach_the_bound_of_a_linear_model_and_not_beyond(name: str, norm: str) -> None:
    """Of ten classes where each is aimed at; up an untargeted loss the nearest class need not be found."""
    aimed = "targets=" in name or name == "multi_targeted"
    model, x, y = hadamard_case() if aimed else linear_case(2)
    for index, eps in enumerate(minimal_eps(model, x, y, norm).tolist()):
        one, label = x[index : index + 1], y[index : index + 1]
        assert run_attack(name, model, one, label, ThreatModel.of(norm, 1.02 * eps)).fooled.all()
        assert not run_attack(name, model, one, label, ThreatModel.of(norm, 0.99 * eps)).fooled.any()


@pytest.mark.parametrize(("norm", "reach"), [("linf", 0.98), ("l2", 0.85)])
def test_squares_reach_nearly_the_bound_of_a_linear_model_and_not_beyond(norm: str, reach: float) -> None:
    model, x, y = linear_case(2)
    for index, eps in enumerate(minimal_eps(model, x, y, norm).tolist()):
        one, label = x[index : index + 1], y[index : index + 1]
        name = "squares:queries=4000,windows=1"
        assert run_attack(name, model, one, label, ThreatModel.of(norm, eps / reach)).fooled.all()
        assert not run_attack(name, model, one, label, ThreatModel.of(norm, 0.99 * eps)).fooled.any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_claimed_survives_independent_scoring(name: str, norm: str, digits_model: Trained) -> None:
    x, y = correct(digits_model, 40)
    eps = 0.1 if norm == "linf" else 0.6
    outcome = run_attack(name, digits_model.model, x, y, ThreatModel.of(norm, eps))
    difference = (outcome.kept.double() - x.double()).flatten(1)
    distance = difference.abs().amax(1) if norm == "linf" else difference.norm(dim=1)
    assert distance.max() <= eps * (1 + 1e-6) + 1e-6
    assert outcome.kept.min() >= 0
    assert outcome.kept.max() <= 1
    logits = digits_model.model(outcome.kept)
    assert torch.equal(logits.argmax(1) != y, outcome.fooled)
    assert torch.allclose(margin(logits, y), outcome.margin, atol=1e-4)
    assert 5 < int(outcome.fooled.sum()) < 40
    assert not outcome.invalid.any()


@pytest.mark.parametrize("name", ALL)
def test_batches_and_order_change_nothing(name: str, digits_model: Trained) -> None:
    x, y = correct(digits_model, 24)
    threat = ThreatModel.of("linf", 0.08)
    whole = run_attack(name, digits_model.model, x, y, threat)
    assert 0 < int(whole.fooled.sum()) < 24
    order = np.random.default_rng(1).permutation(24)
    for ids in (order[:1], order[1:8], order[8:]):
        part = run_attack(name, digits_model.model, x[ids], y[ids], threat, ids=ids.tolist(), batch_size=7)
        assert torch.equal(part.fooled, whole.fooled[ids])


@pytest.mark.parametrize("name", ALL[:-2])
def test_seeds_change_the_search(name: str, digits_model: Trained) -> None:
    x, y = correct(digits_model, 6)
    first, second = (
        run_attack(name, digits_model.model, x, y, ThreatModel.of("linf", 0.02), seed=seed).kept for seed in (0, 1)
    )
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("loss", "targets"), [("ce", None), ("dlr", None), pytest.param("dlr", 9, marks=pytest.mark.slow), ("dlr", 3)]
)
def test_apgd_is_as_strong_as_the_librarys(loss: str, targets: int | None, digits_model: Trained) -> None:
    x, y = correct(digits_model, 80)
    eps, ours, theirs = 0.08, 0, 0
    for seed in range(5):
        if targets:
            library = APGDAttack_targeted(
                digits_model.model, n_iter=40, eps=eps, seed=seed, n_target_classes=targets, device="cpu"
            )
        else:
            library = APGDAttack(digits_model.model, n_iter=40, eps=eps, seed=seed, loss=loss, device="cpu")
        with torch.random.fork_rng():
            x_adv = library.perturb(x.clone(), y)
        theirs += int((digits_model.model(x_adv).argmax(1) == y).sum())
        name = f"apgd:steps=40,targets={targets}" if targets else f"apgd:steps=40,loss={loss}"
        ours += int((~run_attack(name, digits_model.model, x, y, ThreatModel.of("linf", eps), seed=seed).fooled).sum())
    assert 100 < theirs < 350
    assert ours <= theirs + 5


def test_apgd_halves_its_step_where_the_paper_does() -> None:
    spans = registry.module("attacks", "apgd")._spans
    ends = list(spans(100))
    assert ends[:5] == [22, 41, 57, 70, 80]
    assert spans(100)[41] == 19
    assert max(ends) >= 98
    assert all(span > 0 for steps in range(1, 30) for span in spans(steps).values())


def test_the_losses_of_a_known_row_of_logits() -> None:
    logits, y = torch.tensor([[1.0, 5.0, 3.0, -1.0]]), torch.tensor([1])
    assert dlr(logits, y).item() == pytest.approx(-(5 - 3) / (5 - 1))
    assert others(logits, y).tolist() == [[2, 0, 3]]
    assert targeted_margin(logits, y, torch.tensor([3])).item() == -6


def third_in_line() -> tuple[Linear, Tensor, Tensor]:
    """A linear model at whose x, of class 0, only the class with the third highest other logit is within 0.4."""
    weight = torch.zeros(4, 16)
    weight[1, 8] = weight[2, 9] = 0.1
    weight[3, :8] = 4.0
    model = Linear(weight, torch.tensor([10.0, 9.0, 8.0, 0.0]) - 0.5 * weight.sum(1))
    return model, torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(("settings", "falls"), [("1", False), ("2", False), ("3", True), ("1,restarts=3", True)])
def test_targets_are_tried_in_the_order_of_their_logits(settings: str, falls: bool) -> None:
    model, x, y = third_in_line()
    outcome = run_attack(f"apgd:steps=9,targets={settings}", model, x, y, ThreatModel.of("linf", 0.4))
    assert outcome.fooled.all() == falls


def search_of(trained: Trained, count: int, eps: float, drop: bool = True) -> Search:
    x, y = correct(trained, count)
    classifier, threat = Classifier(trained.model), ThreatModel.of("linf", eps)
    return Search(classifier, Judge(classifier, threat), threat, x, y, Draws(0, np.arange(count), x.device), drop=drop)


@pytest.mark.parametrize("drop", [True, False])
def test_those_given_up_leave_with_their_best_candidate_and_come_back_in_the_next_run(
    drop: bool, digits_model: Trained
) -> None:
    search = search_of(digits_model, 6, 1e-3, drop)
    present: list[int] = []
    earlier: list[Tensor] = []

    @sees("gradients")
    def giving_up(search: Search) -> None:
        earlier.append(search.earlier.clone())
        search.offer(search.random_start(search.draws.restart))
        candidates, margins = search.best
        logits = digits_model.model(candidates)
        assert torch.allclose(margin(logits, search.y), margins, atol=1e-5)
        at = search.state(rows=torch.arange(6))
        search.give_up(torch.tensor([True, False, True, False, False, False]))
        present.extend(at.rows.tolist())
        assert len(search.x) == len(at.rows)
        search.offer(search.x)

    outcome = search.run(giving_up, restarts=2)
    assert present == 2 * ([1, 3, 4, 5] if drop else list(range(6)))
    assert outcome.forwards.tolist() == ([2, 4, 2, 4, 4, 4] if drop else [4] * 6)
    assert not outcome.fooled.any()
    assert (earlier[0] == -torch.inf).all()
    assert earlier[1].isfinite().all()
    assert (outcome.margin >= earlier[1]).all()
    assert torch.allclose(
        margin(digits_model.model(outcome.kept), correct(digits_model, 6)[1]), outcome.margin, atol=1e-5
    )


def test_a_suspect_is_judged_before_it_can_be_given_up(digits_model: Trained) -> None:
    search = search_of(digits_model, 12, 0.3)

    @sees("gradients")
    def rash(search: Search) -> None:
        up = search.gradient(search.x, margin)
        search.offer(search.project(search.x + search.eps * up.sign()))
        search.give_up(torch.ones(12, dtype=torch.bool))
        assert not len(search.x)

    outcome = search.run(rash)
    wrong = digits_model.model(outcome.kept).argmax(1) != correct(digits_model, 12)[1]
    assert wrong.any()
    assert torch.equal(outcome.fooled, wrong)


@pytest.mark.parametrize("known", [True, False])
def test_squares_go_on_from_the_best_candidate_of_the_run(known: bool, digits_model: Trained) -> None:
    search = search_of(digits_model, 5, 0.02)
    x = search.x
    starts = [(x + shift).clamp(0, 1) for shift in (0.005, 0.02, -0.01)]
    asked: list[Tensor] = []

    @sees("gradients")
    def after(search: Search) -> None:
        for start in starts if known else []:
            search.offer(start)
        search._classifier.model.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].clone()))
        attack("squares:queries=80")(search)

    search.run(after)
    if known:
        margins = torch.stack([margin(digits_model.model(start), search_of(digits_model, 5, 1).y) for start in starts])
        best = margins.argmax(0)
        assert len(set(best.tolist())) > 1
        assert torch.equal(asked[0], torch.stack([starts[place][row] for row, place in enumerate(best)]))
    else:
        moved = ((asked[0] - x).sign() * ((x > 0.02) & (x < 0.98)))[:, 0]  # those the box does not stop
        up, down = (moved > 0).any(1), (moved < 0).any(1)
        assert not (up & down).any()  # a column moves one way
        assert up.any()
        assert down.any()


def test_squares_give_up_whom_their_pace_would_not_bring_down(digits_model: Trained) -> None:
    x, y = correct(digits_model, 10)
    patient, quick = (
        run_attack(f"squares:queries=800,windows={windows}", digits_model.model, x, y, ThreatModel.of("linf", 1e-4))
        for windows in (1, 10)
    )
    assert patient.forwards.tolist() == [801] * 10
    assert quick.forwards.tolist() == [81] * 10


def test_restarts_in_turn_are_for_the_nearest_alone(digits_model: Trained) -> None:
    x, y = correct(digits_model, 40)
    threat = ThreatModel.of("linf", 0.05)
    clean = margin(digits_model.model(x), y)
    once, again = (
        run_attack(f"{IN_TURN},rise=0.75,restarts={restarts}", digits_model.model, x, y, threat) for restarts in (1, 2)
    )
    near = once.margin >= 0.25 * clean
    more = again.forwards - once.forwards
    stood = ~once.fooled
    assert (more[stood & near] > 10).all()
    assert (more[stood & ~near] == 1).all()  # what its margin at x cost
    assert 0 < int((stood & near).sum()) < int(stood.sum())


def test_a_suites_mode_holds_unless_another_is_asked_for(digits_model: Trained, tmp_path: Path) -> None:
    assert suite("strong").mode == "worst-case"
    assert suite("quick").mode == "columns"

    def planned(**options: object) -> str:
        return plan_evaluation(digits_model.model, EvaluationOptions(eps=0.1, n=8, **options)).mode  # type: ignore[arg-type]

    assert planned(suite="strong") == "worst-case"
    assert planned(suite="strong", mode="columns") == "columns"
    assert planned(suite="quick") == "columns"
    assert planned(attacks=["fgsm"]) == "columns"


def test_strong_runs_on_survivors_whatever_the_batches(digits_model: Trained, tmp_path: Path) -> None:
    planned = plan_evaluation(
        digits_model.model, EvaluationOptions(suite="strong", dataset="digits", eps=0.1, n=24, batch_size=8)
    )
    summary = run(planned, tmp_path / "a")
    first, second, third = summary.attacks.values()
    right = round(24 * summary.clean.value)
    assert first.n_run == 24
    assert 24 > second.n_run >= third.n_run
    kills = sum(each.kills for each in (first, second, third)) + summary.diagnosis.kills  # type: ignore[union-attr]
    assert kills == right - round(24 * summary.worst_case.value)  # type: ignore[union-attr]
    other = plan_evaluation(
        digits_model.model, EvaluationOptions(suite="strong", dataset="digits", eps=0.1, n=24, batch_size=24)
    )
    again, apart = (
        tally(evaluate(each, Ledger(tmp_path / folder), {})) for each, folder in ((planned, "a"), (other, "b"))
    )
    for name, each in again.items():
        assert np.array_equal(each.fooled, apart[name].fooled)
        assert np.array_equal(each.status, apart[name].status)
