"""What attacks and defenses make of an image, all of it, and how far apart it lies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robench.benchmarking.crafting import Examples, ends, fooled, pair_distances, particles
from robench.benchmarking.measure import convergence, diversity, spread
from robench.benchmarking.measure import particles as of_one_image
from robench.data.datasets import Split
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.target import from_module
from robench.search.catalog import attack
from robench.search.rng import Draws
from robench.threat import ThreatModel
from robench.training import recipe
from robench.training.defense import Defense
from robench.utils.errors import UserError
from tests.helpers import Linear, Trained

EPS = 0.1


def evaluation(trained: Trained, n: int = 6, batch_size: int = 128) -> Evaluation:
    return plan_evaluation(
        trained.model, EvaluationOptions(dataset="digits", eps=EPS, attacks=["fgsm"], n=n, batch_size=batch_size)
    )


def of_linear() -> tuple[Evaluation, Tensor, Tensor]:
    """A linear model of two classes away from the edges of the box, so that PGD ends at one vertex of the ball; the
    vertices' directions, and whether they fool it."""
    weight = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    weight = weight - weight.mean()
    model = Linear(torch.cat([weight, -weight]), torch.zeros(2))
    x = (0.5 + 0.2 * torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))).clamp(EPS, 1 - EPS)
    logits = model(x).detach()
    y = logits.argmax(1)
    toward = (2 * y - 1).view(-1, 1, 1, 1) * weight.sign().view(1, 1, 4, 4)
    split = Split("toy", x, y)
    falls = logits.amax(1) < EPS * weight.abs().sum()
    return Evaluation(from_module(model), split, ThreatModel.of("linf", EPS), []), toward, falls


def climbed(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, steps: int, size: float) -> Tensor:
    point = start
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(point), y, reduction="sum"), point)
        point = (point + size * gradient.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    return point.detach()


def test_each_restart_is_kept_where_plain_pgd_from_its_start_ends(digits_model: Trained) -> None:
    planned = evaluation(digits_model)
    examples = Examples.of(planned, [3, 0, 7])
    found = ends(planned, attack("pgd:steps=5,step_size=eps/4,restarts=3"), examples, seed=2)
    assert found.shape == (3, 3, 1, 8, 8)
    for restart in range(3):
        offset = Draws(2, np.array([3, 0, 7]), torch.device("cpu"), restart).uniform("start", (1, 8, 8))
        start = (examples.x + (2 * offset - 1) * EPS).clamp(0, 1)
        expected = climbed(digits_model.model, examples.x, examples.y, start, 5, EPS / 4)
        assert torch.allclose(found[:, restart], expected, atol=1e-6)


def test_draws_at_the_end_of_an_attack_are_all_kept(digits_model: Trained) -> None:
    planned = evaluation(digits_model)
    found = ends(planned, attack("adt_exp:steps=3,samples=2,draws=7"), Examples.of(planned, [0, 1]), seed=0)
    assert found.shape == (2, 7, 1, 8, 8)
    assert bool((pair_distances(found) > 0).all())


def test_particles_that_do_not_feel_each_other_are_independent_restarts(digits_model: Trained) -> None:
    planned = evaluation(digits_model)
    examples = Examples.of(planned, [0, 1])
    apart: Defense = recipe.written("ald:loss=ce,steps=4,step_size=eps/4,start=ball,bandwidth=1e-12")
    found = particles(planned, apart, examples, count=3, seed=5)
    uniform = torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(5)).view(3, 2, 1, 8, 8)
    for particle in range(3):
        start = (examples.x + (2 * uniform[particle] - 1) * EPS).clamp(0, 1)
        expected = climbed(digits_model.model, examples.x, examples.y, start, 4, EPS / 4)
        assert torch.allclose(found[:, particle], expected, atol=1e-6)


def test_a_defense_without_particles_is_refused(digits_model: Trained) -> None:
    planned = evaluation(digits_model)
    with pytest.raises(UserError, match="particles"):
        particles(planned, recipe.written("trades"), Examples.of(planned, [0]), 2, 0)


def test_what_an_attack_lacks_is_said(digits_model: Trained) -> None:
    planned = evaluation(digits_model)
    with pytest.raises(UserError, match="training images"):
        ends(planned, attack("adt_exp_am"), Examples.of(planned, [0]), 0)


def test_pairs_of_points_in_closed_form() -> None:
    points = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]])
    assert pair_distances(points).tolist() == [[3.0, 4.0, 5.0]]


def test_on_a_linear_model_all_restarts_end_at_the_same_vertex() -> None:
    planned, _, falls = of_linear()
    found = spread.measure(planned, attacks={"PGD": attack("pgd-20:restarts=4")}, shown=1)
    assert found["distances"]["PGD"] == pytest.approx([0.0] * 20, abs=1e-5)
    assert 0 < found["fooled"]["PGD"] < 1
    assert found["fooled"]["PGD"] == pytest.approx(float(falls.float().mean()))


def test_only_points_within_the_threat_count_as_adversarial() -> None:
    planned, toward, falls = of_linear()
    examples = Examples.of(planned, range(20))
    points = torch.stack([examples.x + share * EPS * toward for share in (0, 0.999, 2)], 1)
    assert fooled(planned, points, examples) == pytest.approx(float(falls.float().mean()) / 3)


def test_principal_components_keep_distances_of_points_in_a_plane() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(9, 2, generator=generator, dtype=torch.float64))[0]
    flat = torch.randn(12, 2, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    points = (flat @ plane.T).float().view(12, 1, 3, 3)
    found = spread.principal(points[0], {"first": points[:5], "second": points[5:]})
    placed = torch.tensor(found["points"]["first"] + found["points"]["second"], dtype=torch.float64)
    assert torch.allclose(torch.cdist(placed, placed), torch.cdist(flat, flat), atol=1e-5)
    assert sum(found["explained"]) == pytest.approx(1)
    assert found["origin"] == pytest.approx(placed[0].tolist(), abs=1e-6)
    mirrored = spread.principal(-points[0], {"first": -points[:5], "second": -points[5:]})
    assert np.allclose(mirrored["points"]["first"], -np.array(found["points"]["first"]), atol=1e-5)


def test_the_spread_does_not_depend_on_the_batches(digits_model: Trained) -> None:
    attacks = {"PGD": attack("pgd:steps=3,restarts=3"), "EXP": attack("adt_exp:steps=2,samples=2,draws=3")}
    whole, parts = (spread.measure(evaluation(digits_model, 7, size), attacks=attacks, shown=5) for size in (128, 3))
    for name in attacks:
        assert parts["distances"][name] == pytest.approx(whole["distances"][name], rel=1e-4)
        assert parts["fooled"][name] == pytest.approx(whole["fooled"][name])
    assert [image["row"] for image in parts["shown"]] == [0, 1, 2, 3, 4]


def test_the_course_of_an_attack_begins_at_the_images_and_ends_where_it_ends(digits_model: Trained) -> None:
    planned = evaluation(digits_model, n=10, batch_size=4)
    walk = attack("pgd:steps=6,random_start=false")
    found = convergence.measure(planned, attack=walk)
    assert len(found["loss"]) == len(found["accuracy"]) == 7
    examples = Examples.of(planned, range(10))
    for step, points in ((0, examples.x), (6, ends(planned, walk, examples, 0)[:, 0])):
        logits = digits_model.model(points).detach()
        assert found["loss"][step] == pytest.approx(float(nn.functional.cross_entropy(logits, examples.y)), rel=1e-4)
        assert found["accuracy"][step] == pytest.approx(float((logits.argmax(1) == examples.y).float().mean()))


def test_at_first_a_learned_distribution_is_the_tanh_of_a_gaussian(digits_model: Trained) -> None:
    planned = evaluation(digits_model, n=4)
    found = convergence.measure(planned, attack=attack("adt_exp:steps=3,samples=5,draws=5"))
    examples = Examples.of(planned, range(4))
    noise = Draws(0, np.arange(4), torch.device("cpu")).normal("noise", (5, 1, 8, 8), 0)
    points = (examples.x[:, None] + EPS * torch.tanh(np.log(2) * noise)).clamp(0, 1).flatten(0, 1)
    loss = nn.functional.cross_entropy(digits_model.model(points), examples.y.repeat_interleave(5))
    assert found["loss"][0] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert found["loss"][-1] > found["loss"][0]


def test_diversity_is_of_the_first_restarts_and_of_particles_made_anew(digits_model: Trained) -> None:
    planned = evaluation(digits_model, n=4)
    walk, ald = attack("pgd:steps=3"), recipe.written("ald:loss=ce,steps=3,step_size=eps/4,start=ball")
    found = diversity.measure(planned, attacks={"PGD": walk}, defenses={"SVGD": ald}, counts=[2, 4], runs=2, images=3)
    assert found["images"] == 3
    examples = Examples.of(planned, range(3))
    for place, count in enumerate([2, 4]):
        for run in range(2):
            restarts = ends(planned, replace(walk, restarts=count), examples, run)
            made = particles(planned, ald, examples, count, run)
            for name, points in (("PGD", restarts), ("SVGD", made)):
                pairs = [(points[:, i] - points[:, j]).square().sum() for i in range(count) for j in range(i)]
                expected = float(torch.stack(pairs).sum()) / len(pairs) / 3
                assert found["methods"][name]["squared"][place][run] == pytest.approx(expected, rel=1e-4)


def test_repulsion_makes_diversity(digits_model: Trained) -> None:
    planned = evaluation(digits_model, n=3)
    defenses = {
        kernel: recipe.written(f"ald:loss=ce,steps=20,step_size=eps/10,bandwidth={kernel}")
        for kernel in ("median", "1e-12")
    }
    found = diversity.measure(planned, attacks={}, defenses=defenses, counts=[4], runs=1, images=3)["methods"]
    assert found["median"]["squared"][0][0] > 2 * found["1e-12"]["squared"][0][0]


def test_examples_of_one_image_lie_within_the_threat_and_are_read(digits_model: Trained) -> None:
    planned = evaluation(digits_model)
    settings = {"attacks": {"PGD": attack("pgd:restarts=3")}, "defenses": {"SVGD": recipe.written("ald:loss=ce")}}
    found = of_one_image.measure(planned, **settings, image=5, count=2)  # type: ignore[arg-type]
    x = np.array(found["x"])
    assert np.allclose(x, planned.split.floats(slice(4, 5))[0].numpy(), atol=1e-5)
    assert [len(found["methods"][name]["points"]) for name in ("PGD", "SVGD")] == [3, 2]
    for method in found["methods"].values():
        points = torch.tensor(method["points"])
        assert np.abs(points.numpy() - x).max() <= EPS + 1e-5
        assert method["predictions"] == digits_model.model(points).argmax(1).tolist()
    with pytest.raises(UserError, match="number 501"):
        of_one_image.measure(planned, **settings, image=501)  # type: ignore[arg-type]
