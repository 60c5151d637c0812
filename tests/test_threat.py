import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robench.threat import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, ThreatModel
from robench.utils.errors import UserError
from robench.utils.sizes import parse_size


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("8/255", 8 / 255),
        ("0.031", 0.031),
        (0.3, 0.3),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("eps/4", 0.05),
        ("2*eps/10", 0.04),
    ],
)
def test_sizes_mean_what_they_say(written: str | float, value: float) -> None:
    assert parse_size(written, 0.2) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("written", ["", "-8/255", "eps", "8/", "1/0", "0", "inf", "nan", "0.1; 2", "__import__('os')"])
def test_a_radius_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(UserError, match="expected"):
        ThreatModel.of("linf", written).eps  # noqa: B018


def test_the_radius_is_kept_as_written() -> None:
    assert str(ThreatModel.of("linf", "8/255")) == "linf 8/255"


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(UserError, match="l2"):
        ThreatModel.of("l7", 0.1)


points = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(points, st.sampled_from(["linf", "l2"]), st.floats(1e-4, 2.0), st.floats(1e-3, 1e3))
def test_a_projected_point_is_inside_and_stays(seed: int, norm: str, eps: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    threat = ThreatModel.of(norm, eps)
    x = torch.rand(5, 1, 6, 6, generator=generator)
    far = x + spread * torch.randn(5, 1, 6, 6, generator=generator)
    inside = threat.project(far, x)
    assert threat.contains(inside, x).all()
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert torch.allclose(threat.project(inside, x), inside, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_leaves_what_is_inside_alone(norm: str) -> None:
    threat = ThreatModel.of(norm, 0.5)
    x = torch.full((3, 1, 2, 2), 0.5)
    near = x + 0.01
    assert torch.equal(threat.project(near, x), near) or torch.allclose(threat.project(near, x), near, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_membership_has_the_stated_tolerance(norm: str) -> None:
    threat = ThreatModel.of(norm, 0.25)
    x = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    direction = torch.zeros_like(x)
    direction[0, 0, 0, 0] = 1
    reach = 0.25 * (1 + RELATIVE_TOLERANCE) + ABSOLUTE_TOLERANCE
    assert threat.contains(x + (reach - 1e-9) * direction, x).all()
    assert not threat.contains(x + (reach + 1e-9) * direction, x).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.01, -0.01])
def test_what_is_not_an_image_is_outside(bad: float) -> None:
    threat = ThreatModel.of("linf", 10.0)
    x = torch.full((2, 1, 2, 2), 0.5)
    x_adv = x.clone()
    x_adv[1, 0, 1, 1] = bad
    assert threat.contains(x_adv, x).tolist() == [True, False]


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_steepest_step_has_length_one_at_any_scale(scale: float) -> None:
    gradient = scale * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert ThreatModel.of("l2", 1).steepest(gradient).flatten(1).norm(dim=1) == pytest.approx([1.0] * 4, rel=1e-5)
    assert torch.equal(ThreatModel.of("linf", 1).steepest(gradient), gradient.sign())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_gives_no_step_and_no_nan(norm: str) -> None:
    assert torch.equal(ThreatModel.of(norm, 1).steepest(torch.zeros(2, 1, 3, 3)), torch.zeros(2, 1, 3, 3))


def test_ball_points_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (4000, 1, 2, 1)
    cube = ThreatModel.of("linf", 0.5).ball_point(torch.rand(shape, generator=generator)).flatten(1)
    assert cube.abs().max() <= 0.5
    assert cube.mean(0) == pytest.approx([0, 0], abs=0.02)
    assert cube.var(0) == pytest.approx([1 / 12] * 2, rel=0.05)
    uniform, normal = torch.rand(4000, generator=generator), torch.randn(shape, generator=generator)
    disc = ThreatModel.of("l2", 0.5).ball_point(uniform, normal).flatten(1)
    inner = (disc.norm(dim=1) < 0.25).float().mean()
    assert disc.norm(dim=1).max() <= 0.5 + 1e-6
    assert inner == pytest.approx(0.25, abs=0.03)  # a quarter of the disc's area
