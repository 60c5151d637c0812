"""Test-time transforms: deployed with the checkpoint, attacked with or without being seen."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import robench as api
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import run
from robench.evaluation.target import load_model
from robench.models import checkpoint
from robench.reports.ranking import leaderboard
from robench.search.catalog import attack
from robench.training.recipe import defense_class
from robench.utils.errors import UserError
from tests.helpers import Ran, Trained
from tests.toy import THREAT

Run = Callable[..., Ran]


def saved(path: Path, trained: Trained, defense: str, settings: dict[str, object]) -> Path:
    shape = list(trained.split.shape)
    recipe = {"name": defense, "settings": settings, "setup": {}}
    card = checkpoint.Card("digit_cnn", shape, 10, [0.0], [1.0], "digits", "linf", "0.2", defense, recipe, 0)
    checkpoint.save(path, trained.model, card)
    return path


def test_a_checkpoint_is_deployed_behind_its_transform(tmp_path: Path, digits_model: Trained) -> None:
    subject = load_model(saved(tmp_path / "m.pt", digits_model, "input_quantization", {"levels": 2}))
    x = digits_model.split.floats(slice(16))
    assert subject.undefended is not None
    assert torch.equal(subject.undefended(x), digits_model.model(x))
    assert torch.equal(subject.model(x), digits_model.model(x.round()))
    assert "test-time transform of input_quantization" in subject.notices[0]
    plain = load_model(saved(tmp_path / "p.pt", digits_model, "standard", {}))
    assert plain.undefended is None
    assert not plain.notices


def test_its_settings_are_in_the_key(tmp_path: Path, digits_model: Trained) -> None:
    subjects = [
        load_model(saved(tmp_path / f"{levels}.pt", digits_model, "input_quantization", {"levels": levels}))
        for levels in (2, 8)
    ]
    assert subjects[0].key() != subjects[1].key()


def test_the_straight_through_gradient_is_that_at_the_rounded_image(digits_model: Trained) -> None:
    model = defense_class("input_quantization")(levels=4).deploy({"model": digits_model.model}, THREAT)
    x = digits_model.split.floats(slice(4)).requires_grad_()
    rounded = ((x * 3).round() / 3).detach().requires_grad_()
    (through,) = torch.autograd.grad(model(x).logsumexp(1).sum(), x)
    (at_rounded,) = torch.autograd.grad(digits_model.model(rounded).logsumexp(1).sum(), rounded)
    torch.testing.assert_close(through, at_rounded)


def test_static_attacks_the_model_without_and_judges_the_model_with(tmp_path: Path, digits_model: Trained) -> None:
    path = saved(tmp_path / "m.pt", digits_model, "input_quantization", {"levels": 2})
    x, y = digits_model.split.floats(slice(40)), digits_model.split.labels[:40]
    x_adv = api.attack("pgd-20")(digits_model.model, x, y, eps=0.2)
    subject = load_model(path)
    with torch.no_grad():
        right = subject.model(x).argmax(1) == y
        expected = right & (subject.model(x_adv).argmax(1) == y)
    static = api.evaluate(path, attacks=["pgd-20"], n=40, protocol="static", results=tmp_path / "r")
    assert static.worst_case is not None
    assert static.clean.value == int(right.sum()) / 40
    assert static.worst_case.value == pytest.approx(float(expected.float().mean()))
    assert static.verdict.reliable is False
    assert any("--protocol adaptive" in reason for reason in static.verdict.reasons)
    adaptive = api.evaluate(path, attacks=["pgd-20"], n=40, results=tmp_path / "r")
    assert adaptive.worst_case is not None
    assert adaptive.worst_case.value < static.worst_case.value


def test_the_leaderboard_ranks_by_the_adaptive_protocol(tmp_path: Path, digits_model: Trained) -> None:
    path = saved(tmp_path / "m.pt", digits_model, "input_quantization", {"levels": 2})
    static = api.evaluate(path, attacks=["pgd-20"], n=40, protocol="static", results=tmp_path)
    assert static.worst_case is not None
    row = leaderboard(tmp_path).iloc[0]
    assert (row["worst_case"], row["verdict"]) == (static.worst_case.value, "unreliable")
    adaptive = api.evaluate(path, attacks=["pgd-20"], n=20, results=tmp_path)
    assert adaptive.worst_case is not None
    row = leaderboard(tmp_path).iloc[0]
    assert row["worst_case"] == adaptive.worst_case.value


def test_the_last_iterate_is_what_the_papers_judged(tmp_path: Path, digits_model: Trained) -> None:
    path = saved(tmp_path / "m.pt", digits_model, "input_noise", {"sigma": 0.05})
    planned = plan_evaluation(path, EvaluationOptions(suite="atld", n=4, protocol="static", eps=0.1))
    assert planned.readings == "final"
    summary = run(replace(planned, attacks=[attack("pgd-20-atld"), attack("rays:queries=50")]), tmp_path)
    finals = {name: each.accuracy_final for name, each in summary.attacks.items()}
    assert finals["pgd-20-atld"] is not None
    assert finals["rays:queries=50"] is None  # it ends at its first success
    assert summary.spread is not None


def test_unreliable_rows_are_shown_below_the_ranked(tmp_path: Path, digits_model: Trained) -> None:
    broken = saved(tmp_path / "broken.pt", digits_model, "input_quantization", {"levels": 3})
    honest = saved(tmp_path / "honest.pt", digits_model, "standard", {})
    api.evaluate(broken, attacks=["fgsm"], n=40, protocol="static", eps=0.05, results=tmp_path)
    api.evaluate(honest, attacks=["fgsm", "pgd-20"], n=40, eps=0.05, results=tmp_path)
    frame = leaderboard(tmp_path)
    assert frame["verdict"].tolist() == ["provisional", "unreliable"]
    from robench.reports.ranking import to_markdown

    lines = [line for line in to_markdown(frame).splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in lines if "honest" in line or "broken" in line] == ["| 1", "| -"]


def test_static_without_a_transform_is_refused(digits_model: Trained) -> None:
    with pytest.raises(UserError, match="DigitCNN has none"):
        plan_evaluation(digits_model.model, EvaluationOptions(attacks=["fgsm"], eps=0.1, protocol="static"))


@pytest.mark.parametrize("defense", ["input_quantization", "input_noise"])
def test_they_are_trained_and_evaluated_by_name(in_tmp: Path, robench: Run, defense: str) -> None:
    trained = robench("train", "--defense", defense, "--epochs", 2, "--limit", 256, "--out", "m.pt")
    assert trained.code == 0, trained.err
    ran = robench("eval", "--model", "m.pt", "--attack", "fgsm", "--n", 8, "--format", "json")
    assert f"test-time transform of {defense}" in ran.err
    assert (json.loads(ran.out)["clean"]["spread"] is not None) == (defense == "input_noise")
    static = robench("eval", "--model", "m.pt", "--attack", "fgsm", "--n", 8, "--protocol", "static")
    assert static.code == 0, static.err


def test_feature_attacks_go_through_a_transform(tmp_path: Path, digits_model: Trained) -> None:
    path = saved(tmp_path / "m.pt", digits_model, "input_quantization", {"levels": 3})
    summary = api.evaluate(path, attacks=["feature:targets=2,steps=5"], n=6, eps=0.2, results=tmp_path)
    assert next(iter(summary.attacks.values())).errors == 0


def test_a_module_that_shows_no_feature_map_skips_what_needs_it(digits_model: Trained) -> None:
    wrapped = torch.nn.Sequential(digits_model.model)
    planned = plan_evaluation(wrapped, EvaluationOptions(suite="full", eps=0.1, n=2))
    assert planned.left_out["feature"] == "it needs features (layer: map), the model shows pooled"
    assert plan_evaluation(wrapped, EvaluationOptions(attacks=["feature-pooled"], eps=0.1, n=2)).attacks
    with pytest.raises(UserError, match=r"feature cannot be run: it needs features \(layer: map\)"):
        plan_evaluation(wrapped, EvaluationOptions(attacks=["feature"], eps=0.1, n=2))
