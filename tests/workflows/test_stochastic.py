"""Stochastic models: detected, attacked in expectation, judged by votes, the same from run to run."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import robench as api
from robench.evaluation.model_checks import observe
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import run
from robench.ledger.store import Ledger
from robench.losses import cross_entropy
from robench.search.classifier import Classifier
from robench.search.judge import VOTES, Judge
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.broken import Rippled
from tests.helpers import Linear, Trained, linear_case, run_attack


class Noisy(nn.Module):
    def __init__(self, model: nn.Module, sigma: float) -> None:
        super().__init__()
        self.model, self.sigma = model, sigma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x + self.sigma * torch.randn_like(x))  # type: ignore[no-any-return]


class Coin(nn.Module):
    """Right with a chance of its own, by NumPy's or Python's stream."""

    def __init__(self, chance: float, stream: str) -> None:
        super().__init__()
        self.chance, self.stream = chance, stream

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        draw = np.random.rand() if self.stream == "numpy" else random.random()
        sign = 1.0 if draw < self.chance else -1.0
        return sign * torch.tensor([[1.0, -1.0]]).expand(len(x), 2)


def test_behaviour_is_observed(digits_model: Trained) -> None:
    x = digits_model.split.floats(slice(8))
    plain = observe(Classifier(digits_model.model), x)
    assert (plain.stochastic, plain.mixes) == (False, False)
    assert observe(Classifier(Noisy(digits_model.model, 0.05)), x).stochastic
    assert observe(Classifier(Coin(0.5, "numpy")), x).stochastic
    mixing = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), digits_model.model)
    assert observe(Classifier(mixing), x).mixes
    assert observe(Classifier(mixing), x[:1]).mixes
    dropout = nn.Sequential(nn.Dropout(0.5), digits_model.model).train()
    assert not observe(Classifier(dropout), x).stochastic  # it is evaluated, not trained


def test_observing_leaves_random_states_alone(digits_model: Trained) -> None:
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    observe(Classifier(Noisy(digits_model.model, 0.05)), digits_model.split.floats(slice(8)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]


def test_a_model_that_cannot_take_one_image_is_refused_in_one_sentence(digits_model: Trained) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10, track_running_stats=False))
    with pytest.raises(UserError, match=r"cannot take images of shape .*more than 1 value per channel"):
        plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], eps=0.1))


def test_the_gradient_is_the_mean_over_draws() -> None:
    model, x, y = linear_case(3, examples=4)
    classifier = Classifier(Noisy(model, 0.3), draws=5)
    torch.manual_seed(7)
    logits, gradient = classifier.logits_and_gradient(x, y, cross_entropy)
    torch.manual_seed(7)
    points = [(x + 0.3 * torch.randn_like(x)).requires_grad_() for _ in range(5)]
    losses = [cross_entropy(model(point), y).sum() for point in points]
    expected = torch.stack([torch.autograd.grad(loss, point)[0] for loss, point in zip(losses, points, strict=True)])
    torch.testing.assert_close(gradient, expected.mean(0))
    torch.testing.assert_close(logits, torch.stack([model(point) for point in points]).mean(0).detach())
    assert (classifier.forwards, classifier.backwards) == (20, 20)


@pytest.mark.parametrize("stream", ["numpy", "python"])
@pytest.mark.parametrize("chance", [0.05, 0.95])
def test_the_judge_takes_the_vote_of_many_draws(chance: float, stream: str) -> None:
    x, y = torch.full((6, 1, 2, 2), 0.5), torch.zeros(6, dtype=torch.int64)
    judge = Judge(Classifier(Coin(chance, stream)), ThreatModel.of("linf", 0.1), VOTES)
    verdicts = judge(x, x, y)
    assert verdicts.fooled.all() == (chance < 0.5)
    assert len(set(verdicts.share_right.tolist())) == 1  # the same draws for every example
    assert abs(float(verdicts.share_right[0]) - chance) < 0.2
    assert not verdicts.unstable.any()


def test_a_vote_is_not_a_mean() -> None:
    """Rarely but enormously wrong: the mean of the logits is wrong, most draws are right."""

    class Rare(Coin):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            return logits.where(logits[:, :1] > 0, 1000 * logits)

    x, y = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.int64)
    verdicts = Judge(Classifier(Rare(0.8, "numpy")), ThreatModel.of("linf", 0.1), VOTES)(x, x, y)
    assert 0.5 < float(verdicts.share_right[0]) < 1
    assert (verdicts.margin > 0).all()
    assert verdicts.prediction.tolist() == [0, 0]
    assert not verdicts.fooled.any()


def test_a_vote_does_not_depend_on_companions(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(20)), digits_model.split.labels[:20]
    judge = Judge(Classifier(Noisy(digits_model.model, 0.4)), ThreatModel.of("linf", 0.1), VOTES)
    together, reversed_ = judge(x, x, y), judge(x.flip(0), x.flip(0), y.flip(0))
    assert 0 < float(together.share_right.mean()) < 1
    assert torch.equal(together.share_right, reversed_.share_right.flip(0))
    assert torch.equal(together.share_right[:1], judge(x[:1], x[:1], y[:1]).share_right)


def test_the_ledger_holds_shares_and_a_second_run_finds_the_same(tmp_path: Path, digits_model: Trained) -> None:
    planned = plan_evaluation(
        Noisy(digits_model.model, 0.2), EvaluationOptions(attacks=["pgd-10"], eps=0.1, n=12, draws=3)
    )
    assert planned.behaviour.stochastic
    frames = []
    for folder in ("first", "second"):
        torch.manual_seed(len(folder))
        summary = run(planned, tmp_path / folder)
        cells = {cell.about["attack"]: cell.rows() for cell in Ledger(tmp_path / folder).cells()}
        frames.append(cells)
        assert summary.spread is not None
        assert summary.attacks["pgd-10"].spread is not None
    for name in ("clean", "pgd-10"):
        first, second = (cells[name].drop(columns="seconds") for cells in frames)
        pd.testing.assert_frame_equal(first, second)
        assert frames[0][name]["share_right"].between(0, 1).any()
    attacked = frames[0]["pgd-10"]
    stood = attacked[~attacked["fooled"]]
    assert set(stood["forwards"]) <= {33}  # 10 steps and the end, three draws each
    assert replace(planned, draws=4).key(planned.attacks[0]) != planned.key(planned.attacks[0])


def test_a_deterministic_model_has_no_shares(tmp_path: Path, digits_model: Trained) -> None:
    summary = api.evaluate(digits_model.model, attacks=["fgsm"], eps=0.1, n=6, results=tmp_path)
    assert summary.spread is None
    assert all(cell.rows()["share_right"].isna().all() for cell in Ledger(tmp_path).cells())


def test_autoattack_takes_its_version_for_stochastic_models(
    tmp_path: Path, digits_model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robench.utils import registry

    module = registry.module("attacks", "autoattack")
    versions: list[str] = []

    class Recording(module.AutoAttack):  # type: ignore[misc, name-defined]
        def __init__(self, *arguments: object, version: str, **options: object) -> None:
            versions.append(version)
            super().__init__(*arguments, version=version, **options)
            for attack in (self.apgd, self.apgd_targeted):
                attack.n_iter, attack.eot_iter = 2, 2
            self.fab.n_iter, self.square.n_queries = 2, 20

    monkeypatch.setattr(module, "AutoAttack", Recording)
    for model in (Noisy(digits_model.model, 0.1), digits_model.model):
        api.evaluate(model, attacks=["autoattack"], eps=0.01, n=2, results=tmp_path)
    assert versions == ["rand", "standard"]


def test_expectation_sees_through_noise(digits_model: Trained) -> None:
    """One draw of a steep random slope says nothing of where the loss rises; the mean of many does."""
    x, y = digits_model.split.floats(slice(30)), digits_model.split.labels[:30]
    model = Rippled(digits_model.model, sigma=0.05)

    def slope(draws: int) -> torch.Tensor:
        torch.manual_seed(0)
        return Classifier(model, draws=draws).logits_and_gradient(x, y, cross_entropy)[1]

    _, true = Classifier(digits_model.model).logits_and_gradient(x, y, cross_entropy)
    agreement = [float((slope(draws).sign() == true.sign()).float().mean()) for draws in (1, 200)]
    assert agreement[1] > agreement[0] + 0.1


def test_linear_models_fall_at_their_radius_whatever_small_noise(tmp_path: Path) -> None:
    model, x, y = linear_case(2, examples=6)
    assert isinstance(model, Linear)
    assert run_attack("pgd-20", Noisy(model, 1e-4), x, y, ThreatModel.of("linf", 0.5)).fooled.all()


class Hidden(nn.Module):
    """Mostly a fragile model; else, far more surely, one whose slope is hidden: the mean over draws is the latter's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sure = 30 * self.model((2 * x).floor() / 2).softmax(1)
        return self.model(x) / 10 + sure * (torch.rand(len(x), 1) < 0.4)  # type: ignore[no-any-return]


def test_an_example_that_the_vote_gets_wrong_is_fooled_whatever_the_mean(tmp_path: Path, digits_model: Trained) -> None:
    api.evaluate(Hidden(digits_model.model), attacks=["pgd-10"], eps=0.2, n=20, results=tmp_path)
    rows = next(cell for cell in Ledger(tmp_path).cells() if cell.about["attack"] == "pgd-10").rows()
    assert ((rows["adversarial_prediction"] != rows["label"]) == rows["fooled"]).all()
    by_vote_alone = rows["fooled"] & (rows["margin"] < 0)
    assert by_vote_alone.any()


def test_draws_that_no_seed_repeats_are_said(tmp_path: Path, digits_model: Trained) -> None:
    class Own(Noisy):
        generator = torch.Generator().manual_seed(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(x.shape, generator=self.generator)
            return self.model(x + self.sigma * noise)  # type: ignore[no-any-return]

        def __deepcopy__(self, memo: object) -> "Own":
            return self

    x = digits_model.split.floats(slice(8))
    assert observe(Classifier(Own(digits_model.model, 0.1)), x).unseeded
    assert not observe(Classifier(Noisy(digits_model.model, 0.1)), x).unseeded
    summary = api.evaluate(Own(digits_model.model, 0.1), attacks=["fgsm"], eps=0.1, n=4, results=tmp_path)
    assert any("a generator of its own" in reason for reason in summary.verdict.reasons)


def test_the_spread_counts_the_draws_of_what_is_wrong_when_clean(tmp_path: Path, digits_model: Trained) -> None:
    summary = api.evaluate(Noisy(digits_model.model, 0.5), attacks=["fgsm"], eps=1e-4, n=30, draws=1, results=tmp_path)
    assert summary.spread is not None
    assert 0.3 < summary.clean.value < 1
    assert summary.attacks["fgsm"].spread == pytest.approx(summary.spread, rel=0.3)
