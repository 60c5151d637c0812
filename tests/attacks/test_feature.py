"""FeaAttack and what the search offers it: features, targets, several points of an example at once."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.losses import cross_entropy
from robench.models import build
from robench.models.digit_cnn import DigitCNN
from robench.search import sees
from robench.search.classifier import Classifier, Layer
from robench.search.judge import Judge
from robench.search.resources import Images, Resources
from robench.search.rng import Draws
from robench.search.search import Search
from robench.threat import ThreatModel
from robench.utils.errors import AttackError
from tests.helpers import Trained, linear_case, run_attack


def pool(trained: Trained) -> Images:
    order = trained.split.labels[300:].sort().indices + 300
    return Images(trained.split.floats(order), trained.split.labels[order])


def examples(trained: Trained, count: int) -> tuple[Tensor, Tensor]:
    """Correctly classified ones."""
    x, y = trained.split.floats(slice(100)), trained.split.labels[:100]
    right = trained.model(x).argmax(1) == y
    return x[right][:count], y[right][:count]


class Steep(DigitCNN):
    """Logits so large that the cross-entropy is exactly 0 and has no slope: it hides from PGD."""

    def head(self, features: Tensor) -> Tensor:
        return 1e4 * super().head(features)


def test_it_breaks_a_flattened_loss_that_pgd_does_not(digits_model: Trained) -> None:
    steep = Steep((1, 8, 8), 10).eval()
    steep.load_state_dict(digits_model.model.state_dict())
    x, y = examples(digits_model, 30)
    threat = ThreatModel.of("linf", 0.2)
    by_pgd = run_attack("pgd-40", steep, x, y, threat).fooled
    by_feature = run_attack("feature:targets=20", steep, x, y, threat, images=pool(digits_model)).fooled
    assert int(by_pgd.sum()) < 10
    assert int(by_feature.sum()) > 25


@pytest.mark.parametrize("layer", ["map", "pooled"])
def test_it_raises_the_similarity_it_means_to_raise(layer: Layer, digits_model: Trained) -> None:
    x, y = examples(digits_model, 6)
    images, threat = pool(digits_model), ThreatModel.of("linf", 0.01)
    seen: list[Tensor] = []

    class Watched(Classifier):
        def differentiate(self, x: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:
            seen.append(x.detach().clone())
            return super().differentiate(x, *others, **named)

    classifier = Watched(digits_model.model)
    draws = Draws(0, np.arange(6), x.device)
    search = Search(
        classifier, Judge(classifier, threat), threat, x, y, draws, batch_size=6, resources=Resources(images)
    )
    from robench.search.catalog import attack

    search.run(attack(f"feature:targets=1,layer={layer}"))
    aim, _ = classifier.features(images.of_another_class(y, draws, 0), layer)
    similarity = [
        F.cosine_similarity(classifier.features(points, layer)[0].flatten(1), aim.flatten(1)) for points in seen
    ]
    assert len(seen) == 50
    assert (similarity[-1] > similarity[0]).all()


def test_an_l2_step_has_the_length_it_says(digits_model: Trained) -> None:
    x, y = examples(digits_model, 4)
    threat, images = ThreatModel.of("l2", 8.0), pool(digits_model)
    asked: list[Tensor] = []
    model = digits_model.model
    hook = model.get_submodule("trunk").register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].clone()))
    run_attack("feature:targets=1,steps=3,step_size=0.01", model, x, y, threat, images=images, batch_size=4, drop=False)
    hook.remove()
    iterates = [points for points in asked if len(points) == 4][3:]  # behind the targets and two looks at the faces
    moved = (iterates[1] - iterates[0]).flatten(1).norm(dim=1)
    assert moved.max() <= 0.01 + 1e-5
    assert moved.max() > 0.003  # the box cuts some of it


def test_targets_bear_another_label_and_all_of_them_are_drawn() -> None:
    y = torch.tensor([0, 0, 1, 2, 2, 2])
    images = Images(torch.arange(6.0).view(6, 1, 1, 1), y)
    ask = torch.tensor([0, 1, 2])
    drawn = torch.stack(
        [images.of_another_class(ask, Draws(0, np.arange(3), y.device), step).flatten() for step in range(200)]
    )
    assert [set(column.tolist()) for column in drawn.T] == [{2, 3, 4, 5}, {0, 1, 3, 4, 5}, {0, 1, 2}]
    with pytest.raises(AttackError, match="none of another class"):
        Images(torch.zeros(2, 1, 1, 1), torch.zeros(2, dtype=torch.int64)).of_another_class(
            torch.zeros(1, dtype=torch.int64), Draws(0, np.arange(1), y.device), 0
        )


def test_outcomes_do_not_depend_on_how_many_targets_fill_a_batch(digits_model: Trained) -> None:
    x, y = examples(digits_model, 12)
    threat, images = ThreatModel.of("linf", 0.1), pool(digits_model)
    name = "feature:targets=12,steps=20"
    outcomes = [run_attack(name, digits_model.model, x, y, threat, images=images, batch_size=b) for b in (1, 30, 500)]
    assert 2 < int(outcomes[0].fooled.sum()) < 12
    for other in outcomes[1:]:
        assert torch.equal(other.fooled, outcomes[0].fooled)
    standing = ~outcomes[0].fooled
    assert outcomes[0].backwards[standing].tolist() == [12 * 20] * int(standing.sum())
    assert outcomes[0].forwards[standing].tolist() == [12 * (20 + 2)] * int(standing.sum())


def test_features_of_any_module_are_what_enters_its_last_linear_layer(digits_model: Trained) -> None:
    x, _ = examples(digits_model, 4)
    network = build("digit_cnn", (1, 8, 8), 10).eval()
    wrapped = Classifier(nn.Sequential(nn.Identity(), network))
    assert torch.equal(wrapped.features(x, "pooled")[0], network.features(x))
    with pytest.raises(AttackError, match="shows no map features"):
        wrapped.features(x, "map")


def test_several_points_of_an_example_are_as_good_as_several_examples() -> None:
    model, x, y = linear_case(3, examples=5)
    points = x[:, None] + 0.01 * torch.randn(5, 4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    threat = ThreatModel.of("linf", 0.5)
    got: dict[str, Tensor] = {}

    @sees("gradients")
    def looks(search: Search) -> None:
        got["gradient"] = search.gradient(points, cross_entropy)
        got["projected"] = search.project(points + 1)
        got["logits"] = search.query(points)
        search.offer(points)

    classifier = Classifier(model)
    search = Search(classifier, Judge(classifier, threat), threat, x, y, Draws(0, np.arange(5), x.device), batch_size=3)
    outcome = search.run(looks)
    for k in range(4):
        alone = points[:, k].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(alone), y).sum(), alone)
        assert torch.allclose(got["gradient"][:, k], gradient, atol=1e-6)
        assert torch.allclose(got["logits"][:, k], model(points[:, k]), atol=1e-6)
        assert torch.equal(got["projected"][:, k], threat.project(points[:, k] + 1, x))
    assert outcome.forwards.tolist() == [12] * 5
    assert outcome.backwards.tolist() == [4] * 5
    wrong = torch.stack([model(points[:, k]).argmax(1) != y for k in range(4)], 1).any(1)
    assert torch.equal(outcome.fooled, wrong)
