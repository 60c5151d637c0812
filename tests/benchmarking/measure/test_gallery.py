"""The pictures that a benchmark takes of each model: what they show, and that they are inside the threat."""

import io
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robench.benchmarking.measure.gallery import SIDE, measure
from robench.data.datasets import Split
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.model_checks import Behaviour
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.target import from_module
from robench.reports.page.gallery import Gallery
from robench.search.catalog import attack
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.helpers import Trained, linear_case


def pixels(picture: str) -> np.ndarray:
    """[H, W] or [H, W, 3] in [0, 1]."""
    return np.asarray(Image.open(io.BytesIO(b64decode(picture))), dtype=np.float64) / 255


def gallery(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: str = "linf", name: str = "pgd-20", **settings: Any
) -> Gallery:
    evaluation = Evaluation(from_module(model), Split("toy", x, y), ThreatModel.of(norm, 0.1), [])
    return Gallery.of(measure(evaluation, attack=attack(name), **settings))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 1.0)])
def test_pictures_lie_within_the_threat_and_show_what_the_model_says(
    digits_model: Trained, norm: str, eps: float
) -> None:
    split = digits_model.split
    evaluation = plan_evaluation(digits_model.model, EvaluationOptions(attacks=["pgd-20"], eps=eps, norm=norm, n=100))
    found = Gallery.of(measure(evaluation, attack=attack("pgd-20")))
    assert len(found.examples) == 6
    assert len({shown.label for shown in found.examples}) == 6
    for shown in found.examples:
        image = split.floats(slice(shown.example, shown.example + 1))
        assert shown.label == int(split.labels[shown.example])
        assert shown.clean_prediction == int(digits_model.model(image).argmax())
        clean, adversarial = pixels(shown.clean), pixels(shown.adversarial)
        assert np.abs(clean - image[0, 0].numpy()).max() <= 0.5 / 255 + 1e-6
        change = adversarial - clean
        distance = np.abs(change).max() if norm == "linf" else np.linalg.norm(change)
        assert shown.distance <= eps * 1.001
        assert distance == pytest.approx(shown.distance, abs=8 * 2 / 255)
        magnified = 0.5 + found.magnified * change
        assert np.abs(pixels(shown.perturbation) - magnified).max() <= (1 + 2 * found.magnified) / 255
        assert shown.fooled == (shown.adversarial_prediction != shown.label)
    assert any(shown.fooled and not shown.mistaken for shown in found.examples)
    darkest = min(pixels(shown.perturbation).min() for shown in found.examples)
    lightest = max(pixels(shown.perturbation).max() for shown in found.examples)
    assert min(darkest, 1 - lightest) == pytest.approx(0, abs=1 / 255)


def test_a_mistake_is_not_attacked() -> None:
    model, x, y = linear_case(3)
    found = gallery(model, x, (y + 1) % 3, examples=4)
    for shown in found.examples:
        assert shown.mistaken
        assert shown.clean == shown.adversarial
        assert set(pixels(shown.perturbation).flatten()) == {128 / 255}


def test_the_first_images_of_each_class_are_shown() -> None:
    model, x, _ = linear_case(4, examples=12)
    y = torch.tensor([3, 3, 1, 1, 1, 0, 0, 2, 2, 2, 2, 2])
    assert [shown.example for shown in gallery(model, x, y, examples=4).examples] == [5, 2, 7, 0]
    assert [shown.example for shown in gallery(model, x, y, examples=2).examples] == [5, 0]
    assert [shown.example for shown in gallery(model, x, y, examples=8).examples] == [5, 6, 2, 3, 7, 8, 0, 1]


class Corner(nn.Module):
    """Two classes by the first pixel of the first channel."""

    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0, 0, 0]
        return torch.stack([first, 0.5 - first], 1)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_large_images_are_reduced_and_all_channels_welcome(channels: int) -> None:
    x = torch.full((4, channels, 3 * SIDE - 1, 10), 0.3)
    found = gallery(Corner(), x, torch.zeros(4, dtype=torch.long))
    assert found.reduced == 3
    (shape,) = {pixels(shown.clean).shape for shown in found.examples}
    assert shape == ((SIDE, 4, 3) if channels == 3 else (SIDE, 4))
    assert {pixels(shown.perturbation).shape for shown in found.examples} == {shape}
    assert {pixels(shown.clean).min() for shown in found.examples} == {round(0.3 * 255) / 255}


def test_an_attack_that_cannot_be_run_is_said() -> None:
    model, x, y = linear_case(2)
    with pytest.raises(UserError, match="gallery: rays cannot be run: it is defined for linf"):
        gallery(model, x, y, norm="l2", name="rays")
    with pytest.raises(UserError, match="gallery: transfer-pgd-20 cannot be run: it needs source models"):
        gallery(model, x, y, name="transfer-pgd-20")


class Noisy(nn.Module):
    """Draws from torch's global generator."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + 0.05 * torch.randn_like(x))  # type: ignore[no-any-return]


def test_a_second_measurement_is_the_same_and_leaves_no_trace() -> None:
    model, x, y = linear_case(3)
    subject, split = from_module(Noisy(model)), Split("toy", x, y)
    evaluation = Evaluation(subject, split, ThreatModel.of("linf", 0.01), [], behaviour=Behaviour(stochastic=True))
    torch.manual_seed(5)
    first, drawn = measure(evaluation, attack=attack("pgd-20")), torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    assert measure(evaluation, attack=attack("pgd-20")) == first
