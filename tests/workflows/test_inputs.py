"""Inputs that cannot be meant: refused with the likely meaning, or said."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robench as api
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.target import described, load_model
from robench.evaluation.verification import rounded
from robench.models import build, checkpoint
from robench.models.network import check_normalisation
from robench.search.catalog import configure
from robench.threat import Norm, ThreatModel
from robench.training.plan import plan_training
from robench.utils import registry
from robench.utils.errors import Notice, UserError
from tests.helpers import Linear, Ran, Trained

Run = Callable[..., Ran]
DIGIT = (1, 8, 8)


def linear() -> Linear:
    return Linear(torch.randn(10, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(10))


def saved(path: Path, *, norm: Norm = "linf", eps: str = "0.2", dataset: str = "digits") -> Path:
    torch.manual_seed(0)
    card = checkpoint.Card("digit_cnn", [1, 8, 8], 10, [0.0], [1.0], dataset, norm, eps, "standard", {}, 0)
    checkpoint.save(path, build("digit_cnn", DIGIT, 10), card)
    return path


# Radii and steps


@pytest.mark.parametrize(
    ("norm", "eps", "hint"),
    [
        ("linf", "8", "did you mean 8/255"),
        ("linf", 1, "did you mean 1/255"),
        ("linf", "255/255", r"units of \[0, 1\]"),
        ("l2", "8", "did you mean 8/255"),  # the diagonal of 64 pixels
        ("l2", 128.0, "did you mean 128/255"),
    ],
)
def test_a_ball_that_holds_every_image_is_refused_wherever_it_is_given(norm: str, eps: Any, hint: str) -> None:
    x, y = torch.rand(2, *DIGIT), torch.zeros(2, dtype=torch.int64)
    for call in (
        lambda: plan_evaluation(linear(), EvaluationOptions(attacks=["fgsm"], norm=norm, eps=eps)),
        lambda: api.attack("fgsm")(linear(), x, y, norm=norm, eps=eps),
        lambda: plan_training("pgd_at", norm=norm, eps=eps),
        lambda: plan_training("pgd_at", settings={"norm": norm, "eps": eps}),
    ):
        with pytest.raises(UserError, match=hint):
            call()


def test_so_it_is_by_verify_bench_and_a_queue(in_tmp: Path, robench: Run) -> None:
    np.savez("a.npz", x_adv=np.zeros((1, *DIGIT), np.float32), ids=np.arange(1))
    model = saved(in_tmp / "m.pt")
    Path("b.yaml").write_text(f"dataset: digits\neps: 8\nattacks: [fgsm]\nmodels: [{model}]\n")
    Path("q.yaml").write_text(
        "shared:\n  a: {dataset: digits, eps: 8, evaluations: {e: {attacks: [fgsm], n: 4}}}\n"
        "queue:\n  one: {like: a, defense: standard}\n"
    )
    for words in (
        ("verify", "--model", model, "--adversarial", "a.npz", "--eps", "8"),
        ("bench", "b.yaml"),
        ("reproduce", "q.yaml"),
    ):
        ran = robench(*words)
        assert (ran.code, "did you mean 8/255?" in ran.err) == (2, True), ran.err


def test_just_below_it_is_a_threat() -> None:
    assert ThreatModel.asked("linf", 0.99, DIGIT).eps == 0.99
    assert ThreatModel.asked("l2", 7.9, DIGIT).eps == 7.9
    assert ThreatModel.asked("linf", "8/255", ()).eps == 8 / 255


def test_a_step_across_the_box_is_refused_and_one_in_shares_of_eps_is_not() -> None:
    with pytest.raises(UserError, match=r"expected a step_size of pgd:step_size=2 below 1 .* did you mean 2/255"):
        plan_evaluation(linear(), EvaluationOptions(attacks=["pgd:step_size=2"], eps=0.1))
    with pytest.raises(UserError, match="did you mean 2/255"):
        plan_training("pgd_at", settings={"step_size": 2})
    settings = {"first": "pgd:step_size=2", "then": "squares"}
    within = configure(registry.attack_function("in_turn"), settings, name="within")
    with pytest.raises(UserError, match="did you mean 2/255"):
        within.check_lengths(ThreatModel.of("linf", 0.1), DIGIT)
    assert plan_evaluation(linear(), EvaluationOptions(attacks=["pgd:step_size=9*eps"], eps=0.9)).attacks


@pytest.mark.parametrize(("setting", "value"), [("delta", float("nan")), ("lr", float("inf")), ("lr", -0.1)])
def test_settings_that_are_no_numbers(setting: str, value: float) -> None:
    with pytest.raises(UserError, match="finite number of at least 0"):
        plan_evaluation(
            linear(),
            EvaluationOptions(attacks=[f"spsa:{setting}={str(value).replace('nan', '.nan').replace('inf', '.inf')}"]),
        )
    with pytest.raises(UserError, match=r"finite|greater"):
        plan_training("standard", settings={"lr": value})


# Defaults come as a set


def test_a_radius_never_comes_without_its_norm(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.pt")
    with pytest.raises(UserError, match=r"the radius of m, 0.2, is for linf, not for l2; give one with --eps"):
        plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], norm="l2"))
    with pytest.raises(UserError, match=r"the radius of digits, .* is for linf, not for l2"):
        plan_evaluation(linear(), EvaluationOptions(attacks=["fgsm"], norm="l2"))
    with pytest.raises(UserError, match="is for linf, not for l2"):
        plan_training("pgd_at", norm="l2")
    with pytest.raises(UserError, match="is for linf, not for l2"):
        plan_training("pgd_at", settings={"norm": "l2"})
    assert str(plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], norm="l2", eps=0.5)).threat) == "l2 0.5"
    assert str(plan_evaluation(model, EvaluationOptions(attacks=["fgsm"])).threat) == "linf 0.2"


def test_a_norm_that_is_the_checkpoints_is_said(tmp_path: Path) -> None:
    with pytest.warns(Notice, match="the norm is l2, that of m"):
        planned = plan_evaluation(saved(tmp_path / "m.pt", norm="l2"), EvaluationOptions(attacks=["fgsm"], eps=0.5))
    assert str(planned.threat) == "l2 0.5"


def test_a_radius_is_for_the_data_it_was_trained_for(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.pt", dataset="mnist")
    with pytest.raises(UserError, match="no usual radius for m, made for mnist, on digits; give one"):
        plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], dataset="digits"))
    assert plan_evaluation(model, EvaluationOptions(attacks=["fgsm"], dataset="digits", eps=0.1)).threat.norm == "linf"


# Normalisation


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([125.3], [0.2], r"a mean of pixels in \[0, 1\], got 125.3; in units of 0 to 255\? Then divide by 255: 0.4914"),
        ([0.5], [63.0], "divide by 255"),
        ([0.5], [0.0], "a std above 0"),
        ([float("nan")], [1.0], "a mean from 0 to 1, got nan"),
        ([-0.5], [1.0], "a mean from 0 to 1, got -0.5"),
        ([0.5], [float("inf")], "a std above 0 to 1, got inf"),
    ],
)
def test_means_and_deviations_of_no_image(mean: list[float], std: list[float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_normalisation(mean, std)


def test_mean_and_std_come_together_and_an_architecture_for_files_alone(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.pt")
    with pytest.raises(UserError, match="mean and std together"):
        load_model(model, mean=[0.1])
    with pytest.raises(UserError, match="mean and std together"):
        plan_training("standard", settings={"mean": [0.1]})
    with pytest.raises(UserError, match="arch is said of a file of weights, which Linear is not"):
        plan_evaluation(linear(), EvaluationOptions(attacks=["fgsm"], arch="lenet"))


# Sources


def test_a_source_says_its_own_normalisation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(build("digit_cnn", DIGIT, 10).state_dict(), tmp_path / "bare.pth")
    target = {"arch": "digit_cnn", "mean": [0.3], "std": [0.4]}
    bare = str(tmp_path / "bare.pth")

    def planned(source: str) -> nn.Module:
        options: dict[str, Any] = {"attacks": ["transfer-fgsm"], "eps": 0.1, **target}
        return plan_evaluation(bare, EvaluationOptions(sources=[source], **options)).sources[0].model

    with pytest.raises(UserError, match=r"bare.pth;arch=NAME"):
        planned(bare)
    x = torch.rand(4, *DIGIT)
    own = build("digit_cnn", DIGIT, 10, mean=[0.1], std=[0.5])
    own.load_state_dict(torch.load(bare, weights_only=True))
    assert torch.equal(planned(f"{bare};arch=digit_cnn;mean=0.1;std=0.5")(x), own.eval()(x))
    plain = build("digit_cnn", DIGIT, 10)
    plain.load_state_dict(torch.load(bare, weights_only=True))
    assert torch.equal(planned(f"{bare};arch=digit_cnn")(x), plain.eval()(x))


def test_what_is_said_of_a_state_dict() -> None:
    assert described("a/b.pth;arch=lenet;mean=0.1,0.2,0.3;std=1") == (
        "a/b.pth",
        {"arch": "lenet", "mean": [0.1, 0.2, 0.3], "std": [1.0]},
    )
    for wrong in ("a.pth;arc=x", "a.pth;arch", "a.pth;mean=x"):
        with pytest.raises(UserError, match="expected"):
            described(wrong)
    with pytest.raises(UserError, match="say it once"):
        load_model("a.pth;arch=lenet", arch="lenet")


# Counts


def test_more_than_there_is_is_said(in_tmp: Path, robench: Run) -> None:
    with pytest.warns(Notice, match=r"99999 examples were asked for, digits \(test\) has 500"):
        assert len(plan_evaluation(linear(), EvaluationOptions(attacks=["fgsm"], n=99999)).wanted) == 500
    with pytest.warns(Notice, match="limit of 99999 images was asked for, digits has"):
        plan_training("standard", limit=99999)
    with pytest.warns(Notice, match="20 draws were asked for, but Linear gives the same each time"):
        plan_evaluation(linear(), EvaluationOptions(attacks=["fgsm"], n=4, draws=20))
    with pytest.warns(Notice, match="no attack of the battery transfers"):
        plan_evaluation(linear(), EvaluationOptions(attacks=["fgsm"], n=4, sources=[linear()]))
    words = ("--attack", "fgsm", "--n", 99999, "--dry-run")
    ran = robench("eval", "--model", saved(in_tmp / "m.pt"), *words)
    assert (ran.code, ran.err.count("99999 examples were asked for")) == (0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_evaluation(linear(), EvaluationOptions(attacks=["fgsm"], n=500))


# Rounding to eight bits


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("linf", 8 / 255), ("linf", 0.05), ("l2", 0.5), ("l2", 0.1)])
@pytest.mark.parametrize("scale", [16, 255, 1e6])
def test_rounding_stays_within_the_threat_wherever_a_level_is(norm: str, eps: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 1, 8, 8, generator=generator) * scale).round() / scale
    threat = ThreatModel.of(norm, eps)
    x_adv = threat.project(x + 2 * eps * threat.steepest(torch.randn(x.shape, generator=generator)), x)
    image = rounded(x_adv, x, threat)
    assert torch.equal((255 * image).round() / 255, image)
    nearest = ThreatModel.of(norm, eps).contains((255 * x).round() / 255, x)  # the nearest image of 256 levels
    assert nearest.any()
    assert threat.contains(image, x)[nearest].all()
    plain = (255 * x_adv).round() / 255
    assert (image != plain).any() or threat.contains(plain, x).all()
    kept = threat.contains(plain, x)
    assert torch.equal(image[kept], plain[kept])


def test_rounding_repairs_nothing_that_was_outside() -> None:
    x = torch.full((1, 1, 2, 2), 0.5)
    assert not ThreatModel.of("linf", 0.1).contains(rounded(x + 0.2, x, ThreatModel.of("linf", 0.1)), x).any()


class Bright(nn.Module):
    """Wrong as soon as the mean pixel is above 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        lead = (x.flatten(1).mean(1, keepdim=True) - 0.5) * 100
        return torch.cat([-lead, lead], 1)


def test_what_leaves_the_ball_is_no_evidence_of_robustness(tmp_path: Path) -> None:
    """On sixteenths at eps 0.05, plain rounding takes an x_adv at x + eps = 114.75 levels to 115."""
    x = torch.full((10, 1, 4, 4), 102 / 255 + 0.05)
    x[:, :, 0] = 0.4  # x + eps is above 0.5 in no pixel of this row
    y, eps = np.zeros(10, np.int64), 0.05
    np.savez(tmp_path / "a.npz", x_adv=(x + eps).numpy(), x=x.numpy(), y=y)
    found = api.verify(Bright(), tmp_path / "a.npz", eps=eps, eight_bit=True)
    assert (found.valid, found.outside_ball) == (10, 0)
    far = (x + eps).numpy()
    far[:4] += 0.01
    np.savez(tmp_path / "b.npz", x_adv=far, x=x.numpy(), y=y)
    found = api.verify(Bright(), tmp_path / "b.npz", eps=eps)
    assert (found.valid, found.at_least, found.at_most) == (6, 0.0 if found.fooled else 0.6, 0.4 if found.fooled else 1)
    far[:] = 0.9
    np.savez(tmp_path / "c.npz", x_adv=far, x=x.numpy(), y=y)
    found = api.verify(Bright(), tmp_path / "c.npz", eps=eps)
    assert (found.robust, found.valid, found.at_least, found.at_most) == (None, 0, 0.0, 1.0)
    assert found.to_json()["robust"] is None


def test_verify_says_that_robust_is_unknown(in_tmp: Path, robench: Run, digits_model: Trained) -> None:
    x = digits_model.split.floats(slice(4)).numpy()
    np.savez("a.npz", x_adv=np.minimum(x + np.array([0, 0, 0, 0.5]).reshape(4, 1, 1, 1), 1), ids=np.arange(4))
    ran = robench("verify", "--model", saved(in_tmp / "m.pt"), "--adversarial", "a.npz", "--format", "md")
    assert ran.code == 0
    assert "| valid x_adv | 3 |" in ran.out
    assert "over all 4 robust accuracy is unknown" in ran.out
    np.savez("b.npz", x_adv=x * 255, ids=np.arange(4))
    ran = robench("verify", "--model", in_tmp / "m.pt", "--adversarial", "b.npz")
    assert (ran.code, "divide those" in ran.err) == (2, True)
