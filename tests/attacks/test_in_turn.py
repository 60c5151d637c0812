"""One attack after the other: on whom the second goes on."""

from robench.losses import margin
from robench.threat import ThreatModel
from tests.helpers import Trained, correct, hadamard_case, minimal_eps, run_attack


def test_restarts_in_turn_are_for_the_nearest_alone(digits_model: Trained) -> None:
    x, y = correct(digits_model, 40)
    threat = ThreatModel.of("linf", 0.05)
    clean = margin(digits_model.model(x), y)
    once, again = (
        run_attack(f"in_turn:first=fgsm,then=squares,rise=0.75,restarts={restarts}", digits_model.model, x, y, threat)
        for restarts in (1, 2)
    )
    near = once.margin >= 0.25 * clean
    more = again.forwards - once.forwards
    stood = ~once.fooled
    assert (more[stood & near] > 10).all()
    assert (more[stood & ~near] == 1).all()  # what its margin at x cost
    assert 0 < int((stood & near).sum()) < int(stood.sum())


def test_strong_climbs_a_hundred_steps_where_nine_short_runs_came_half_the_way() -> None:
    model, x, y = hadamard_case(6)
    distance = float(minimal_eps(model, x, y, "linf").min())
    near, far = (
        run_attack("climb", model, x, y, ThreatModel.of("linf", share * distance)).backwards for share in (0.9, 0.2)
    )
    short = 9 * (2 + 10)  # targets, each with its diversifying steps and its own
    assert far.tolist() == [short] * 6
    assert near.max() == short + 1 + 100
