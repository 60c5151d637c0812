"""Models that hide their gradient are flagged, by what settles it, and honest ones pass."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import robench as api
from robench.ledger.summary import Summary
from robench.training.recipe import defense_class
from robench.utils.errors import Notice
from tests.broken import Quantised, Rippled, Scaled
from tests.helpers import Linear, Trained
from tests.toy import THREAT

EPS, N = 0.2, 100


def evaluated(model: nn.Module, results: Path, *, attacks: tuple[str, ...] = ("fgsm", "pgd-20"), n: int = N) -> Summary:
    return api.evaluate(model, attacks=attacks, eps=EPS, n=n, results=results)


def worst(summary: Summary) -> float:
    assert summary.worst_case is not None
    return summary.worst_case.value


def test_an_honest_model_is_not_flagged(tmp_path: Path, digits_model: Trained) -> None:
    summary = evaluated(digits_model.model, tmp_path)
    assert summary.verdict.reliable is None
    assert [reason for reason in summary.verdict.reasons if "without gradients" not in reason] == []
    whole = evaluated(digits_model.model, tmp_path, attacks=("fgsm", "pgd-20", "rays:queries=50"))
    assert (whole.verdict.reliable, whole.verdict.reasons, str(whole.verdict)) == (True, [], "reliable")


def test_an_input_quantised_without_a_slope(tmp_path: Path, digits_model: Trained) -> None:
    naive = evaluated(Quantised(digits_model.model), tmp_path)
    assert naive.verdict.reliable is False
    assert any("the gradient is zero on" in reason for reason in naive.verdict.reasons)
    quantization = defense_class("input_quantization")(levels=8)
    adaptive = evaluated(quantization.deploy({"model": digits_model.model}, THREAT), tmp_path)
    assert adaptive.clean == naive.clean
    assert worst(adaptive) < worst(naive) - 0.5
    assert adaptive.verdict.reliable is None


def test_logits_out_of_all_proportion(tmp_path: Path, digits_model: Trained) -> None:
    summary = evaluated(Scaled(digits_model.model), tmp_path)
    assert summary.verdict.reliable is False
    assert any("softmax is saturated" in reason and "cw-100" in reason for reason in summary.verdict.reasons)
    assert worst(evaluated(Scaled(digits_model.model), tmp_path, attacks=("cw-30",))) < worst(summary) - 0.5


def test_a_shattered_gradient(tmp_path: Path, digits_model: Trained) -> None:
    summary = evaluated(Rippled(digits_model.model), tmp_path)
    assert summary.verdict.reliable is False
    assert "fgsm, one step, breaks" in summary.verdict.reasons[0]


def test_a_randomised_input(tmp_path: Path, digits_model: Trained) -> None:
    model = Rippled(digits_model.model, sigma=0.05)
    naive = api.evaluate(model, attacks=["pgd-10"], eps=EPS, n=40, draws=1, results=tmp_path)
    assert naive.verdict.reliable is False
    assert any("--draws" in reason for reason in naive.verdict.reasons)
    adaptive = api.evaluate(model, attacks=["pgd-10"], eps=EPS, n=40, draws=8, results=tmp_path)
    one, many = (summary.attacks["pgd-10"].accuracy for summary in (naive, adaptive))
    assert one is not None
    assert many is not None
    assert many.value < one.value - 0.15
    assert worst(naive) < one.value  # the diagnosis, with more draws, broke what it left
    assert adaptive.verdict.reliable is None


def test_a_diagnosis_is_made_once_and_again_for_more_examples(tmp_path: Path, digits_model: Trained) -> None:
    def made() -> dict[str, float]:
        return {str(path): path.stat().st_mtime_ns for path in tmp_path.glob("ledger/*/found.json")}

    evaluated(digits_model.model, tmp_path, attacks=("fgsm",), n=20)
    first = made()
    assert len(first) == 1
    evaluated(digits_model.model, tmp_path, attacks=("pgd-10",), n=10)
    assert made() == first
    evaluated(digits_model.model, tmp_path, attacks=("fgsm",), n=30)
    assert made().keys() == first.keys()
    assert made() != first


def test_a_model_that_mixes_its_batch_is_said(tmp_path: Path, digits_model: Trained) -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.model = nn.BatchNorm2d(1, track_running_stats=False), digits_model.model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(0.5 + 0.3 * self.norm(x))  # type: ignore[no-any-return]

    summary = api.evaluate(Mixing(), attacks=["fgsm"], eps=0.1, n=30, results=tmp_path)
    assert any("the others in its batch" in reason for reason in summary.verdict.reasons)


def test_a_radius_beyond_grey_is_not_held_against_a_smaller_one(tmp_path: Path) -> None:
    """A linear model that 0.5 leaves and 0.7 breaks is honest."""
    weight = torch.tensor([[1.0], [-1.0]]).expand(2, 64) / 64
    x = torch.full((40, 1, 8, 8), 0.9) + 0.001 * torch.rand(40, 1, 8, 8)
    np.savez(tmp_path / "light.npz", x_test=x.numpy(), y_test=np.zeros(40, dtype=np.int64))
    model = Linear(weight, torch.tensor([-0.3, 0.3]))  # of class 0 where the mean is above 0.3
    dataset = f"npz:{tmp_path / 'light.npz'}"
    summary = api.evaluate(model, dataset=dataset, attacks=["pgd-20"], eps=0.7, results=tmp_path)
    assert worst(summary) == 0
    assert summary.verdict.reliable is None


def test_a_model_without_a_path_for_gradients_has_none(tmp_path: Path, digits_model: Trained) -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = digits_model.model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x.detach())  # type: ignore[no-any-return]

    with pytest.warns(Notice, match="scores alone"):
        summary = evaluated(Detached(), tmp_path, attacks=("rays:queries=20",), n=20)
    assert summary.diagnosis is None  # there is nothing to probe
    assert summary.verdict.reliable is None  # rays needs no gradient, and went over all of them
    assert any("no attack with gradients" in reason for reason in summary.verdict.reasons)


def test_logits_that_are_not_finite_are_said(tmp_path: Path, digits_model: Trained) -> None:
    class Overflowing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = digits_model.model(x)
            return torch.where(x.mean((1, 2, 3))[:, None] > 0.31, logits / 0, logits)

    summary = api.evaluate(Overflowing(), attacks=["fgsm"], eps=0.05, n=20, results=tmp_path)
    assert any("the logits are not finite on" in reason for reason in summary.verdict.reasons)


def test_a_model_that_is_never_right_is_said_to_have_given_nothing_to_attack(tmp_path: Path) -> None:
    never = Linear(torch.zeros(11, 64), torch.eye(11)[10])
    summary = api.evaluate(never, attacks=["fgsm"], eps=0.05, n=20, results=tmp_path)
    assert summary.verdict.reasons == ["no example is classified correctly, so there was none to attack"]


def test_batches_of_a_diagnosis_add_up(tmp_path: Path, digits_model: Trained) -> None:
    found = []
    for size in (7, 100):
        api.evaluate(digits_model.model, attacks=["fgsm"], eps=0.1, n=30, batch_size=size, results=tmp_path / str(size))
        found += [json.loads(path.read_text()) for path in (tmp_path / str(size)).glob("ledger/*/found.json")]
    assert found[0] == found[1]


class Breaking(nn.Module):
    """Right answers, and a backward pass that raises."""

    def __init__(self, model: nn.Module, message: str) -> None:
        super().__init__()
        self.model, self.message = model, message

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._raise)
        return logits  # type: ignore[no-any-return]

    def _raise(self, gradient: torch.Tensor) -> None:
        raise RuntimeError(self.message)


@pytest.mark.parametrize(
    "message", ["cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "Expected all tensors on one device"]
)
def test_an_error_of_the_model_is_no_zero_gradient(message: str, tmp_path: Path, digits_model: Trained) -> None:
    model = Breaking(digits_model.model, message)
    summary = api.evaluate(model, attacks=["rays:queries=20"], eps=0.02, n=12, results=tmp_path)
    assert not any("zero" in reason for reason in summary.verdict.reasons)
    assert any(f"the diagnosis failed: RuntimeError: {message}" in reason for reason in summary.verdict.reasons)
    assert summary.diagnosis is not None
    assert summary.diagnosis.failed == f"RuntimeError: {message}"


def test_what_the_diagnosis_breaks_counts_in_the_worst_case(tmp_path: Path, digits_model: Trained) -> None:
    summary = api.evaluate(digits_model.model, attacks=["fgsm"], eps=0.1, n=60, results=tmp_path)
    assert summary.diagnosis is not None
    fgsm = summary.attacks["fgsm"].accuracy
    assert fgsm is not None
    assert summary.diagnosis.kills > 0
    assert worst(summary) == pytest.approx(fgsm.value - summary.diagnosis.kills / 60)
    assert sum(each.n * each.worst_case.value for each in summary.classes if each.worst_case) == pytest.approx(
        60 * worst(summary)
    )
    (row,) = api.leaderboard(tmp_path).to_dict("records")
    assert row["worst_case"] == worst(summary)


def test_pixels_whose_gradient_the_box_hides_are_counted(tmp_path: Path, digits_model: Trained) -> None:
    clamped = nn.Sequential(nn.Hardtanh(0, 1), digits_model.model)  # no slope at 0 and 1 themselves
    shares = []
    for name, model in (("clamped", clamped), ("plain", digits_model.model)):
        found = api.evaluate(model, attacks=["fgsm"], eps=0.1, n=12, results=tmp_path / name).diagnosis
        assert found is not None
        assert found.faces is not None
        shares.append(found.faces)
    assert shares[0] > 0.5
    assert shares[1] < 0.05
