"""Dominant eigenvalues against the whole Hessian, and the loss surface against the loss."""

import copy

import pytest
import torch
from torch import Tensor, nn

from robench.benchmarking.measure import curvature, loss_surface
from robench.benchmarking.measure.curvature import dominant_eigenvalue
from robench.data.datasets import Split
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.target import from_module
from robench.search.rng import Draws
from robench.threat import ThreatModel
from tests.helpers import Trained
from tests.toy import Net, batch


def of(model: nn.Module, size: int = 6, batch_size: int = 128) -> Evaluation:
    given = batch(size)
    threat = ThreatModel.of("linf", 0.1)
    return Evaluation(from_module(model), Split("toy", given.x, given.y), threat, [], batch_size=batch_size)


def spectra(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """All eigenvalues, from the whole Hessian of each image."""
    model = model.double().eval()
    found = []
    for row in range(len(x)):

        def loss(flat: Tensor, row: int = row) -> Tensor:
            return nn.functional.cross_entropy(model(flat.view(1, *x.shape[1:])), y[row : row + 1])

        hessian = torch.autograd.functional.hessian(loss, x[row].double().flatten())  # type: ignore[no-untyped-call]
        found.append(torch.linalg.eigvalsh(hessian))
    return found


def dominant(values: Tensor) -> float:
    return float(values[values.abs().argmax()])


def test_eigenvalues_are_those_of_the_whole_hessian() -> None:
    """Of a smooth network, whose Hessian has eigenvalues of both signs."""
    given = batch()
    found = curvature.measure(of(Net()), iterations=2000, tolerance=1e-4)
    expected = [dominant(values) for values in spectra(Net(), given.x, given.y)]
    assert found["converged"] == found["images"] == 6
    assert found["eigenvalues"] == pytest.approx(expected, rel=1e-3)
    assert all(float(values.min()) < 0 < float(values.max()) for values in spectra(Net(), given.x, given.y))


def test_a_piecewise_linear_network_has_no_negative_eigenvalue(digits_model: Trained) -> None:
    planned = plan_evaluation(digits_model.model, EvaluationOptions(dataset="digits", attacks=["fgsm"], n=4))
    found = curvature.measure(planned, iterations=500, tolerance=1e-4)
    whole = spectra(copy.deepcopy(digits_model.model), planned.split.floats(slice(4)), planned.split.labels[:4])
    assert all(float(values.min()) > -1e-6 * float(values.max()) for values in whole)
    assert found["eigenvalues"] == pytest.approx([dominant(values) for values in whole], rel=1e-3)


def test_an_eigenvalue_does_not_depend_on_the_batch() -> None:
    whole, alone = (curvature.measure(of(Net(), batch_size=size)) for size in (128, 1))
    assert alone["eigenvalues"] == pytest.approx(whole["eigenvalues"], rel=1e-3)


def test_the_models_own_weights_stay_float32() -> None:
    model = Net()
    curvature.measure(of(model), iterations=1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("diagonal", "value"), [((-3.0, 2.0, 1.0), -3.0), ((1.0, 5.0, -4.0), 5.0), ((0.0,) * 3, 0.0)])
def test_power_iteration_finds_the_largest_in_absolute_value_with_its_sign(
    diagonal: tuple[float, ...], value: float
) -> None:
    scale = torch.tensor(diagonal, dtype=torch.float64)
    start = torch.tensor([[0.5, 0.4, 0.3]], dtype=torch.float64)
    found, settled = dominant_eigenvalue(lambda v: v * scale, start, 200, 1e-6)
    assert float(found) == pytest.approx(value)
    assert settled.all()


def test_two_eigenvalues_of_opposite_sign_and_equal_size_do_not_pass_for_one() -> None:
    scale = torch.tensor([2.0, -2.0])
    _, settled = dominant_eigenvalue(lambda v: v * scale, torch.tensor([[0.6, 0.5], [1.0, 0.0]]), 200, 0.01)
    assert settled.tolist() == [False, True]


def test_what_converged_first_is_left_as_it_was() -> None:
    scale = torch.tensor([[4.0, 1.0], [4.0, 3.9]], dtype=torch.float64)
    start = torch.ones(2, 2, dtype=torch.float64)
    alone, _ = dominant_eigenvalue(lambda v: v * scale[:1], start[:1], 1000, 0.01)
    both, settled = dominant_eigenvalue(lambda v: v * scale, start, 1000, 0.01)
    assert settled.all()
    assert float(both[0]) == float(alone)


def test_the_surface_is_the_loss_along_two_directions_of_signs() -> None:
    model, given = Net().eval(), batch()
    found = loss_surface.measure(of(Net()), image=3, radius="2*eps", points=5)
    x, y = given.x[2:3].clone().requires_grad_(), given.y[2:3]
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), x)
    random = Draws(0, torch.tensor([2]).numpy(), x.device).signs("loss surface", (1, 4, 4))
    assert set(random.flatten().tolist()) == {-1.0, 1.0}
    assert (found["label"], found["radius"]) == (int(y), pytest.approx(0.2))
    for i, a in enumerate((-0.2, -0.1, 0.0, 0.1, 0.2)):
        for j, b in enumerate((-0.2, -0.1, 0.0, 0.1, 0.2)):
            logits = model((x + a * gradient.sign() + b * random).detach())
            expected = float(nn.functional.cross_entropy(logits, y).detach())
            assert found["loss"][i][j] == pytest.approx(expected, abs=1e-5)
    assert found["loss"][3][2] > found["loss"][2][2] > found["loss"][1][2]
