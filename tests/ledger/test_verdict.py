"""The verdict flags what hides its gradient, says what would settle it, and lets honest models pass."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from robench.access import Sight
from robench.ledger.evidence import Evidence
from robench.ledger.per_example import Tally, condensed_tallies
from robench.ledger.schema import ROW
from robench.ledger.signs import Signs, bits_of
from robench.ledger.verdict import judge_evaluation


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


def test_grey_may_be_of_the_commonest_class() -> None:
    of_one_class = found(standing={"extreme": [True] * 60 + [False] * 40})
    assert judge_evaluation(evidence(diagnosis=of_one_class)).reliable is False
    assert judge_evaluation(evidence(diagnosis={**of_one_class, "most": 60})).reliable is None


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
