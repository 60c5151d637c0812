"""The verdict flags what hides its gradient, says what would settle it, and lets honest models pass."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from torch import nn

import robench as api
from robench.access import Sight
from robench.ledger.evidence import Evidence
from robench.ledger.per_example import Tally, condensed_tallies
from robench.ledger.schema import ROW
from robench.ledger.signs import Signs, bits_of
from robench.ledger.summary import Summary
from robench.ledger.verdict import judge_evaluation
from robench.search.catalog import attack
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
    adaptive = api.evaluate(model, attacks=["pgd-10"], eps=EPS, n=40, draws=20, results=tmp_path)
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


def rows(fooled: Sequence[bool | None], **columns: object) -> Tally:
    n = len(fooled)
    defaults = {"status": "ok", "label": 0, "clean_prediction": 0, "forwards": 0, "backwards": 20, "queries": 0}
    values: dict[str, object] = {"example": range(n), "seconds": [0.0] * n, "seed": [0] * n, "fooled": fooled}
    values |= {name: value if isinstance(value, list) else [value] * n for name, value in (defaults | columns).items()}
    arrays = [pa.array(values[f.name], f.type) if f.name in values else pa.nulls(n, f.type) for f in ROW]
    return Tally.of(pa.table(arrays, schema=ROW))


def evidence(*, access: Mapping[str, str] | None = None, **changes: Any) -> Evidence:
    """By default PGD alone, which breaks 50 of 200; `access` of attacks that are no composites."""
    sights = {name: [Sight(each)] for name, each in (access or {"pgd": "gradients"}).items()}  # type: ignore[arg-type]
    honest = {
        "tallies": {"pgd": rows([True] * 50 + [False] * 150)},
        "sights": sights,
        "settings": {"pgd": {"function": "pgd", "settings": {"steps": 20}}},
        "classes": 10,
    }
    every = {**honest, **changes}
    one = next(iter(every["tallies"].values()))
    every.setdefault("signs", Signs.of(bits_of(every.get("diagnosis"), one.example, one.correct)))
    return Evidence(**every)


def found(**changes: Any) -> dict[str, Any]:
    """A diagnosis of the first 100, of which PGD breaks those that the attack breaks too. It is a document of before,
    with counts, unless it is given `ids`."""
    standing = {"eps": [False] * 50 + [True] * 50, "twice": [False] * 90 + [True] * 10, "extreme": [False] * 100}
    honest = {"probed": 100, "zero": 0, "nonfinite": 0, "saturated": 0, "standing": standing, "extreme": "linf 0.5"}
    return {**honest, **changes, "standing": {**standing, **changes.get("standing", {})}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"static": True}, "--protocol adaptive"),
        ({"draws": 1}, "--draws 10"),
        ({"mixes": True}, "running statistics"),
        ({"diagnosis": found(zero=12)}, "the gradient is zero on 12 of 100"),
        ({"diagnosis": found(nonfinite=12)}, "not finite on 12 of 100"),
        ({"diagnosis": found(saturated=12)}, "saturated on 12 of 100"),
        ({"diagnosis": found(standing={"extreme": [True] * 20 + [False] * 80})}, "PGD at linf 0.5"),
        ({"diagnosis": found(standing={"twice": [False] * 40 + [True] * 60})}, "at eps than at twice that"),
        ({"diagnosis": found(standing={"more draws": [False] * 60 + [True] * 40}), "draws": 10}, "--draws 40"),
    ],
)
def test_each_sign_is_flagged_with_what_settles_it(changes: dict[str, Any], words: str) -> None:
    assert judge_evaluation(evidence(diagnosis=found())).reliable is None
    verdict = judge_evaluation(evidence(**changes))
    assert verdict.reliable is False
    assert len(verdict.reasons) == 1
    assert words in verdict.reasons[0]


def test_signs_within_chance_are_not_flagged() -> None:
    mild = found(
        zero=9, saturated=9, standing={"extreme": [True] * 12 + [False] * 88, "twice": [False] * 49 + [True] * 51}
    )
    assert judge_evaluation(evidence(diagnosis=mild)).reliable is None


def test_more_steps_that_break_less_are_flagged() -> None:
    few, many = rows([True] * 60 + [False] * 140), rows([True] * 40 + [False] * 160)
    settings = {name: {"function": "pgd", "settings": {"steps": steps}} for name, steps in (("few", 20), ("many", 100))}
    access = {"few": "gradients", "many": "gradients"}
    flagged = judge_evaluation(evidence(tallies={"few": few, "many": many}, access=access, settings=settings))
    assert [reason.partition(" (")[0] for reason in flagged.reasons] == ["few breaks 10.0 points"]
    others = {**settings, "many": {"function": "cw", "settings": {"steps": 100}}}
    unlike = evidence(tallies={"few": few, "many": many}, access=access, settings=others)
    assert judge_evaluation(unlike).reliable is None


def test_few_examples_are_never_reliable() -> None:
    attacks = {"pgd": rows([True] * 5 + [False] * 5), "rays": rows([False] * 10, backwards=0, queries=9)}
    settings: dict[str, object] = {"pgd": {}, "rays": {}}
    access = {"pgd": "gradients", "rays": "labels"}
    verdict = judge_evaluation(evidence(tallies=attacks, access=access, diagnosis=found(), settings=settings))
    assert verdict.reliable is None
    assert "fewer than 100 examples" in verdict.reasons[0]


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


def test_grey_may_be_of_the_commonest_class() -> None:
    of_one_class = found(standing={"extreme": [True] * 60 + [False] * 40})
    assert judge_evaluation(evidence(diagnosis=of_one_class)).reliable is False
    assert judge_evaluation(evidence(diagnosis={**of_one_class, "most": 60})).reliable is None


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


def test_one_step_is_held_against_the_best_of_many_and_not_against_transfer() -> None:
    breaks = {"one": (60, 1), "weak": (30, 20), "strong": (80, 20)}
    one, weak, strong = (rows([True] * n + [False] * (200 - n), backwards=steps) for n, steps in breaks.values())
    access = dict.fromkeys(("one", "weak", "strong"), "gradients")
    settings = {name: {"function": name} for name in access}
    flagged = judge_evaluation(evidence(tallies={"one": one, "weak": weak}, access=access, settings=settings))
    assert "one, one step, breaks 15.0 points" in flagged.reasons[0]
    battery = {"one": one, "weak": weak, "strong": strong}
    assert judge_evaluation(evidence(tallies=battery, access=access, settings=settings)).reliable is None
    by_transfer = {"one": "labels", "weak": "labels", "strong": "gradients"}
    assert judge_evaluation(evidence(tallies=battery, access=by_transfer, settings=settings)).reliable is None


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


# What a reason asks for is an input of its check

FAR, NEAR = [True] * 50 + [False] * 150, [False] * 200
GRADIENTS, SCORES = Sight("gradients"), Sight("scores")


def signed(**examples: Sequence[int]) -> dict[str, Any]:
    """A diagnosis of the first 100 that names its examples."""
    flags = {name: [i in examples.get(name, ()) for i in range(100)] for name in ("zero", "nonfinite", "saturated")}
    return found(ids=list(range(100)), broken=[i < 50 for i in range(100)], **flags)


Ran = tuple[Sequence[bool | None], Sequence[Sight], dict[str, Any]]
"""Of an attack, what it breaks, what its parts go by, and columns of its rows."""


def attacked(diagnosis: Mapping[str, Any] | None = None, attacks: Mapping[str, Ran] | None = None) -> Evidence:
    """PGD, which breaks the first 50 of 200, and other attacks."""
    every: dict[str, Ran] = {"pgd": (FAR, [GRADIENTS], {}), **(attacks or {})}
    return evidence(
        tallies={name: rows(fooled, **columns) for name, (fooled, _, columns) in every.items()},
        sights={name: sights for name, (_, sights, _) in every.items()},
        settings={name: {"function": name.rstrip("0123456789"), "settings": _steps(name)} for name in every},
        diagnosis=diagnosis or signed(),
    )


def _steps(name: str) -> dict[str, int]:
    digits = "".join(filter(str.isdigit, name))
    return {"steps": int(digits)} if digits else {}


BLACK_BOX: dict[str, Ran] = {"rays": (NEAR, [Sight("labels")], {"backwards": 0})}
ON_LOGITS: dict[str, Ran] = {"cw": (NEAR, [Sight("gradients", unsaturated=True)], {})}
COMPOSITE: dict[str, Ran] = {"autoattack": (NEAR, [GRADIENTS, Sight("scores", unsaturated=True)], {})}
MORE: dict[str, Ran] = {"adaptive": (FAR[:40] + [True] * 60 + NEAR[:100], [GRADIENTS], {})}


@pytest.mark.parametrize(
    ("diagnosis", "attacks", "words", "cures"),
    [
        (signed(zero=range(60, 80)), {}, "the gradient is zero on 20 of 100", [BLACK_BOX, COMPOSITE]),
        (signed(nonfinite=range(60, 80)), {}, "not finite on 20 of 100", [BLACK_BOX, COMPOSITE]),
        (signed(saturated=range(60, 80)), {}, "softmax is saturated on 20", [ON_LOGITS, COMPOSITE]),
        (found(zero=20), {}, "the gradient is zero on 20 of 100", [BLACK_BOX]),  # a document of before
        (found(standing={"extreme": [True] * 30 + [False] * 70}), {}, "PGD at linf 0.5", [BLACK_BOX, COMPOSITE]),
        (found(standing={"twice": [True] * 100}), {}, "at eps than at twice that", [BLACK_BOX, COMPOSITE]),
        (
            signed(),
            {"mim5": ([True] * 90 + NEAR[:110], [GRADIENTS], {}), "mim50": (FAR, [GRADIENTS], {})},
            "mim5 breaks",
            [BLACK_BOX, COMPOSITE],
        ),
        (signed(), {"fgsm": ([True] * 90 + NEAR[:110], [GRADIENTS], {"backwards": 1})}, "one step", [BLACK_BOX]),
        (signed(), {"spsa": ([True] * 90 + NEAR[:110], [SCORES], {})}, "spsa, without gradients", [MORE]),
        (signed(), {"torn": ([None, *NEAR[1:]], [SCORES], {"status": "error"})}, "torn ended in an error", []),
    ],
)
def test_every_reason_is_settled_by_what_it_asks_for(
    diagnosis: Mapping[str, Any], attacks: dict[str, Any], words: str, cures: Sequence[dict[str, Any]]
) -> None:
    before = judge_evaluation(attacked(diagnosis, attacks))
    assert before.reliable is False
    assert [words in reason for reason in before.reasons] == [True]
    for cure in cures:
        after = judge_evaluation(attacked(diagnosis, {**attacks, **cure}))
        assert not any(words in reason for reason in after.reasons), after.reasons
        assert after.reliable is not False


def test_a_cure_settles_the_examples_it_was_run_on_alone() -> None:
    unfinished = [None if i >= 60 else False for i in range(200)]
    partly: dict[str, Ran] = {"rays": (unfinished, [Sight("labels")], {"status": ["ok"] * 60 + ["error"] * 140})}
    reasons = judge_evaluation(attacked(signed(zero=range(50, 100)), partly)).reasons
    assert any("zero on 50 of 100 examples, 40 of which still stand" in reason for reason in reasons)
    assert judge_evaluation(attacked(signed(zero=range(50)))).reliable is None  # PGD broke them all


def test_a_few_examples_without_gradient_are_within_chance() -> None:
    assert judge_evaluation(attacked(signed(zero=range(60, 69)))).reliable is None
    assert judge_evaluation(attacked(signed(zero=range(60, 70)))).reliable is False


def test_a_model_that_has_no_gradient_is_provisional_whatever_was_run() -> None:
    verdict = judge_evaluation(attacked(signed(zero=range(100)), COMPOSITE))
    assert verdict.reliable is None
    assert "had none to follow on 100 of 100" in verdict.reasons[0]


def test_a_composite_counts_as_what_its_parts_go_by() -> None:
    assert judge_evaluation(attacked(attacks=COMPOSITE)).reliable is True
    assert "no attack without gradients" in judge_evaluation(attacked()).reasons[0]
    masked: dict[str, Ran] = {"autoattack": ([True] * 120 + NEAR[:80], COMPOSITE["autoattack"][1], {})}
    assert judge_evaluation(attacked(attacks=masked)).reliable is True  # which part broke them is not known


@trials(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_attacks_and_a_split_of_the_rows_change_no_verdict(seed: int) -> None:
    random = np.random.default_rng(seed)
    kinds = [[GRADIENTS], [SCORES], [GRADIENTS, SCORES], [Sight("labels", unsaturated=True)]]
    every: dict[str, Ran] = {
        name: ((random.random(200) < random.random()).tolist(), kinds[random.integers(4)], {"backwards": steps})
        for name, steps in (("a5", 5), ("a50", 50), ("b", 1), ("c", 20))
    }
    zero = np.flatnonzero(random.random(100) < random.random()).tolist()
    whole = attacked(signed(zero=zero, saturated=zero[:20]), every)
    shuffled = [list(whole.tallies.items())[place] for place in random.permutation(len(whole.tallies))]
    assert judge_evaluation(replace(whole, tallies=dict(shuffled))) == judge_evaluation(whole)
    clean = replace(rows([False] * 200), signs=bits_of(whole.diagnosis, np.arange(200), np.ones(200, dtype=bool)))
    together = condensed_tallies({"clean": clean, **whole.tallies})
    fewer = {name: each for name, each in together.items() if name != "clean"}
    assert judge_evaluation(replace(whole, tallies=fewer, signs=Signs.of(together["clean"].signs))) == judge_evaluation(
        whole
    )


# The diagnosis


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


@pytest.mark.parametrize(
    ("written", "accesses"),
    [
        ("autoattack", {"gradients", "scores"}),
        ("autoattack-rand", {"gradients"}),
        ("apgd-ce", {"gradients"}),
        ("apgd-squares", {"gradients", "scores"}),
        ("in_turn:first=rays,then=squares", {"labels", "scores"}),
        ("transfer", {"labels"}),  # what it drives, it drives on another model
    ],
)
def test_an_attack_knows_what_its_parts_go_by(written: str, accesses: set[str]) -> None:
    assert {sight.access for sight in attack(written).sights(10, stochastic=False).values()} == accesses
    assert "square" not in attack("autoattack").sights(10, stochastic=True)
