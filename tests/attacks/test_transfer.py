"""Transfer: crafted on the source to the last step, judged on the target alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import robench as api
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.ledger.store import Ledger
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from tests.helpers import Linear, Ran, Trained, linear_case, minimal_eps, run_attack


def test_the_last_iterate_of_the_source_is_judged_on_the_target(digits_model: Trained) -> None:
    source, x, _ = linear_case(3)
    target, _, _ = linear_case(3, seed=1)
    y = target(x).argmax(1)
    threat = ThreatModel.of("linf", 0.05)
    x_source = run_attack("pgd-20", source, x, y, threat, drop=False)
    outcome = run_attack("transfer-pgd-20", target, x, y, threat, sources=[source])
    assert 0 < int(outcome.fooled.sum()) < len(x)
    crafted = source_end(source, x, y, threat)
    assert torch.equal(outcome.fooled, target(crafted).argmax(1) != y)
    assert x_source.fooled.any()
    assert set(outcome.queries.tolist()) == {1}  # the target sees the end alone
    assert set(outcome.forwards.tolist()) == {22}  # 20 steps and the end on the source, and the end on the target
    assert set(outcome.backwards.tolist()) == {20}


def source_end(source: Linear, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
    """Where PGD ends on a linear model after 20 steps of eps/4, whatever its start: the corner its gradient points to,
    as far as the classes' probabilities do not turn it."""
    seen: list[torch.Tensor] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = source

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach().clone())
            return self.inner(x)  # type: ignore[no-any-return]

        def __deepcopy__(self, memo: object) -> "Watched":
            return self

    watched = Watched()
    run_attack("pgd-20", watched, x, y, threat, drop=False)
    return [points for points in seen if len(points) == len(x)][-1]


def test_the_source_need_not_fall(digits_model: Trained) -> None:
    """The source classifies everything otherwise, so that it is 'fooled' at once; its steps are taken all the same."""
    target, x, y = linear_case(2)
    flipped = Linear(-target.layer.weight.detach(), -target.layer.bias.detach())
    assert (flipped(x).argmax(1) != y).all()
    threat = ThreatModel.of("linf", float(minimal_eps(target, x, y, "linf").max()) * 1.1)
    assert not run_attack("transfer-fgsm", target, x, y, threat, sources=[flipped]).fooled.any()
    assert run_attack("transfer-fgsm", target, x, y, threat, sources=[flipped, target]).fooled.all()


def test_outcomes_do_not_depend_on_companions(digits_model: Trained) -> None:
    target, x, y = linear_case(3)
    source, _, _ = linear_case(3, seed=1)
    threat = ThreatModel.of("linf", 0.06)
    together = run_attack("transfer-mim", target, x, y, threat, sources=[source])
    for row in range(len(x)):
        one = slice(row, row + 1)
        alone = run_attack("transfer-mim", target, x[one], y[one], threat, sources=[source], ids=[row])
        assert bool(alone.fooled) == bool(together.fooled[row])


def test_it_is_skipped_with_the_reason_where_no_source_is_given(
    digits_model: Trained, in_tmp: Path, robench: Callable[..., Ran]
) -> None:
    planned = plan_evaluation(digits_model.model, EvaluationOptions(suite="full", eps=0.1, n=4))
    assert "transfer-pgd-20" not in [attack.name for attack in planned.attacks]
    assert "--source" in planned.left_out["transfer-pgd-20"]
    summary = api.evaluate(digits_model.model, suite="quick", eps=0.1, n=4)
    assert not summary.skipped
    with pytest.raises(UserError, match="transfer-pgd-20 cannot be run: it needs source models"):
        plan_evaluation(digits_model.model, EvaluationOptions(attacks=["transfer-pgd-20"], eps=0.1, n=4))


def test_what_a_norm_rules_out_is_skipped(digits_model: Trained) -> None:
    planned = plan_evaluation(digits_model.model, EvaluationOptions(suite="black_box", norm="l2", eps=0.5, n=4))
    assert [attack.name for attack in planned.attacks] == ["spsa-256", "square"]
    assert planned.left_out == {"rays": "it is defined for linf, not for l2"}


def test_the_key_names_the_sources_and_the_attack(digits_model: Trained) -> None:
    def key(attack: str, source: nn.Module) -> str:
        planned = plan_evaluation(
            digits_model.model, EvaluationOptions(attacks=[attack], sources=[source], eps=0.1, n=4)
        )
        return str(planned.key(planned.attacks[0]))

    first, second = (Linear(torch.randn(10, 64), torch.zeros(10)) for _ in range(2))
    keys = [key("transfer-fgsm", first), key("transfer-fgsm", second), key("transfer-mim", first)]
    assert len(set(keys)) == 3


def test_a_source_of_another_shape_is_refused(digits_model: Trained, in_tmp: Path) -> None:
    with pytest.raises(UserError, match="cannot take images"):
        api.evaluate(digits_model.model, attacks=["transfer-fgsm"], sources=[linear_case(10)[0]], eps=0.1, n=4)


def test_from_python(digits_model: Trained) -> None:
    x, y = digits_model.split.floats(slice(8)), digits_model.split.labels[:8]
    x_adv = api.attack("transfer-fgsm")(digits_model.model, x, y, eps=0.3, sources=[digits_model.model])
    assert (digits_model.model(x_adv).argmax(1) != y).any()
    with pytest.raises(UserError, match="sources="):
        api.attack("transfer-fgsm")(digits_model.model, x, y, eps=0.3)


def test_a_source_that_draws_gives_the_same_each_time(tmp_path: Path, digits_model: Trained) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = digits_model.model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x + 0.3 * torch.randn_like(x))  # type: ignore[no-any-return]

    def margins(results: Path) -> list[float]:
        options = {"attacks": ["transfer-pgd-20"], "sources": [Noisy()], "eps": 0.1, "n": 10}
        api.evaluate(digits_model.model, results=results, **options)  # type: ignore[arg-type]
        cells = {cell.about["attack"].partition(" from ")[0]: cell for cell in Ledger(results).cells()}
        assert cells["transfer-pgd-20"].key["attack"]["n"] == 10  # its draws depend on the batch
        return list(cells["transfer-pgd-20"].rows()["margin"].dropna())

    assert margins(tmp_path / "1") == margins(tmp_path / "2")


def test_what_drives_an_attack_of_a_library_depends_on_companions_too(digits_model: Trained) -> None:
    planned = plan_evaluation(
        digits_model.model, EvaluationOptions(attacks=["transfer:by=apgd-ce"], sources=[digits_model.model], n=4)
    )
    assert planned.key(planned.attacks[0])["attack"]["n"] == 4
