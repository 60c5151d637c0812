"""Whether a robust accuracy can be trusted, from the ledger alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np

from robench.access import Sight
from robench.ledger.evidence import Evidence, follows
from robench.ledger.per_example import Array
from robench.ledger.signs import count as count_of
from robench.utils.stats import mcnemar, wilson

POINTS = 0.02
SIGNIFICANCE = 0.01
ENOUGH = 100
"""Examples below which the checks have no power."""

MOST = 0.5
"""The share of examples without a gradient above which no attack with gradients was run in effect."""

LOST = 0.05
"""The share of examples without a gradient that is too many, if it is above that beyond chance."""


@dataclass(frozen=True)
class Verdict:
    """`reliable` is False where a check failed, with the evidence and what would settle it in `reasons`; None where
    none did but some could not be made, with what they lack; True where all were made and passed."""

    reliable: bool | None
    reasons: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return {True: "reliable", None: "provisional", False: "unreliable"}[self.reliable]


def _gropes(sight: Sight) -> bool:
    """It needs no gradient, so that a missing or misleading one is nothing to it."""
    return not follows(sight)


def _unsaturated(sight: Sight) -> bool:
    return sight.unsaturated


def judge_evaluation(evidence: Evidence) -> Verdict:
    """The same in whatever order the attacks are given. What a reason asks for is an input of its check: once that was
    run on the examples in question and agrees, the reason is not given."""
    evidence = replace(evidence, tallies=dict(sorted(evidence.tallies.items())))
    checks = (
        _failed_runs,
        _logits_not_finite,
        _attacked_without_its_transform,
        _attacked_by_single_draws,
        _batches_mix,
        _no_gradient,
        _stands_beyond_reason,
        _larger_balls_are_safer,
        _more_draws_break_more,
        _fewer_steps_break_more,
        _one_step_beats_many,
        _black_box_beats_white_box,
    )
    if not evidence.tallies:
        return Verdict(None, ["no attack was run"])
    if reasons := [reason for check in checks for reason in check(evidence)]:
        return Verdict(False, reasons)
    lacking = list(_lacking(evidence))
    return Verdict(None if lacking else True, lacking)


def _lacking(evidence: Evidence) -> Iterator[str]:
    """What keeps a verdict from being more than provisional."""
    if not any(each.correct.any() for each in evidence.tallies.values()):
        yield "no example is classified correctly, so there was none to attack"
        return
    sights = [sight for name in evidence.tallies for sight in evidence.sights[name]]
    if without := _mostly_without_gradient(evidence):
        yield without
    elif not any(map(follows, sights)):
        yield "no attack with gradients was run (--suite white_box has them)"
    if not any(map(_gropes, sights)):
        yield "no attack without gradients was run (--suite black_box has them)"
    if any(each.n < ENOUGH for each in evidence.tallies.values()):
        yield f"fewer than {ENOUGH} examples were attacked (--n {ENOUGH})"
    if evidence.unseeded:
        yield "the model draws from a generator of its own, so no two runs agree (torch's global one could be seeded)"
    if evidence.diagnosis is None:
        yield "the model's gradients were not probed (robench eval does)"
    elif failed := evidence.diagnosis.get("failed"):
        yield f"the diagnosis failed: {failed} (robench eval makes it again)"


def _mostly_without_gradient(evidence: Evidence) -> str | None:
    """Attacks with gradients say nothing where there are none, whatever else was run."""
    (zero, probed), (nonfinite, _) = (_counted(evidence, sign) for sign in ("zero", "nonfinite"))
    count = zero + nonfinite
    if not probed or wilson(count, probed).low <= MOST:
        return None
    return (
        f"attacks with gradients had none to follow on {count} of {probed} examples (a differentiable stand-in for "
        "what has no slope gives them some)"
    )


# Said of the runs


def _failed_runs(evidence: Evidence) -> Iterator[str]:
    for name, each in evidence.tallies.items():
        for status, meaning in (("error", "ended in an error"), ("invalid", "offered images outside the threat")):
            if count := each.total(each.status == status):
                yield f"{name} {meaning} on {count} of {each.n} examples; run it again or leave it out"


def _logits_not_finite(evidence: Evidence) -> Iterator[str]:
    counts = [each.total(each.clean_prediction == -1) for each in evidence.tallies.values()]
    if count := max(counts, default=0):
        yield f"the logits are not finite on {count} of the images as they are; mend the model"


def _attacked_without_its_transform(evidence: Evidence) -> Iterator[str]:
    if evidence.static:
        yield "the attacks did not see the test-time transform; --protocol adaptive settles it"


def _attacked_by_single_draws(evidence: Evidence) -> Iterator[str]:
    if evidence.draws == 1:
        yield "the model draws and the attacks saw one draw a step; --draws 10 settles it"


def _batches_mix(evidence: Evidence) -> Iterator[str]:
    if evidence.mixes:
        yield "an image's logits depend on the others in its batch; evaluate the model with running statistics"


# Said of the gradients

BLACK_BOX = "--suite black_box settles it"


def _no_gradient(evidence: Evidence) -> Iterator[str]:
    found = evidence.diagnosis or {}
    stand_in = "a differentiable stand-in for what has no slope, or --suite black_box, settles it"
    for name, what, cure, cures in (
        ("zero", "the gradient is zero", stand_in, _gropes),
        ("nonfinite", "the gradient is not finite", BLACK_BOX, _gropes),
        (
            "saturated",
            "the softmax is saturated",
            "--attack cw-100 --attack apgd-t, on the logits, settles it",
            _unsaturated,
        ),
    ):
        count, probed = _counted(evidence, name)
        signed = getattr(evidence.signs, name) if "ids" in found else evidence.signs.probed
        in_question = min(count, evidence.total(signed & evidence.without(cures)))
        if in_question and wilson(in_question, probed).low > LOST:
            yield f"{what} on {count} of {probed} examples, {in_question} of which still stand; {cure}"


def _stands_beyond_reason(evidence: Evidence) -> Iterator[str]:
    signs, found = evidence.signs, evidence.diagnosis
    probed = evidence.total(signs.guided)
    if not (found and probed and _in_question(evidence)):
        return
    robust, chance = evidence.total(signs.guided & ~signs.extreme), _chance(evidence, found)
    seen = min(int(found["probed"]), int(evidence.count.sum()))  # the examples that are wrong when clean among them
    if wilson(robust, seen).low > chance:
        shares = f"{100 * robust / seen:.0f} % (chance is {100 * chance:.0f} %)"
        yield f"PGD at {found['extreme']}, within reach of grey, leaves {shares}; {BLACK_BOX}"


def _in_question(evidence: Evidence) -> bool:
    """Whether an example is left that only gradients were tried on, so that misleading ones may have missed it."""
    return bool(evidence.without(_gropes).any())


def _chance(evidence: Evidence, found: Mapping[str, Any]) -> float:
    """What a model is right on that gives every image the class of a grey one."""
    return max(1 / evidence.classes, int(found.get("most", 0)) / int(found["probed"]))


def _larger_balls_are_safer(evidence: Evidence) -> Iterator[str]:
    if _in_question(evidence):
        for gap, p in _probes(evidence, "eps", "twice"):
            yield f"PGD breaks {_points(gap, p)} more at eps than at twice that; {BLACK_BOX}"


def _more_draws_break_more(evidence: Evidence) -> Iterator[str]:
    if (evidence.diagnosis or {}).get("standing", {}).get("more draws"):
        for gap, p in _probes(evidence, "more_draws", "eps"):
            more = 4 * (evidence.draws or 1)
            yield f"PGD breaks {_points(gap, p)} more where it sees {more} draws a step; --draws {more} settles it"


def _probes(evidence: Evidence, stronger: str, weaker: str) -> list[tuple[float, float]]:
    signs = evidence.signs
    strong, weak, probed = getattr(signs, stronger), getattr(signs, weaker), signs.probed
    return _beats(strong[probed], weak[probed], evidence.count[probed])


def _counted(evidence: Evidence, sign: str) -> tuple[int, int]:
    """On how many examples a sign was found, and on how many it was looked for: of those evaluated or, from a document
    that does not say which have it, of all."""
    found = evidence.diagnosis or {}
    if "ids" in found:
        return evidence.total(getattr(evidence.signs, sign)), evidence.total(evidence.signs.probed)
    return count_of(found, sign), len(found.get("standing", {}).get("eps", []))


# Said of the battery


def _fewer_steps_break_more(evidence: Evidence) -> Iterator[str]:
    fooled = evidence.fooled if _in_question(evidence) else {}
    for few, many in permutations(fooled, 2):
        first, second = evidence.settings[few], evidence.settings[many]
        if _steps(first) < _steps(second) and _but_steps(first) == _but_steps(second):
            for gap, p in _beats(fooled[few], fooled[many], evidence.count):
                yield f"{few} breaks {_points(gap, p)} more than {many}; {BLACK_BOX}"


def _steps(settings: Mapping[str, Any]) -> int:
    return int(settings.get("settings", {}).get("steps", 0))


def _but_steps(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    others = {name: value for name, value in settings.get("settings", {}).items() if name != "steps"}
    return {**settings, "settings": others}


def _one_step_beats_many(evidence: Evidence) -> Iterator[str]:
    """An attack of one gradient that breaks more than all iterative ones together: the gradient leads nowhere."""
    with_gradients = evidence.only(gradients=True) if _in_question(evidence) else []
    fooled = {name: column for name, column in evidence.fooled.items() if name in with_gradients}
    gradients = {name: int(evidence.tallies[name].max_backwards.max()) for name in fooled}
    draws = evidence.draws or 1
    many = [column for name, column in fooled.items() if gradients[name] > draws]
    if many:
        union = np.any(many, axis=0)
        for one in (name for name in fooled if gradients[name] == draws):
            for gap, p in _beats(fooled[one], union, evidence.count):
                yield f"{one}, one step, breaks {_points(gap, p)} more than the attacks of more steps; {BLACK_BOX}"


def _black_box_beats_white_box(evidence: Evidence) -> Iterator[str]:
    """An attack without gradients that breaks more than all those with them together: the gradient is masked.

    Composites of both kinds are left out, whose rows do not say which part broke an example. Where an attack ran on
    survivors only, what gradients had broken counts as broken by both, and what another attack had is left out.
    """
    tallies = {name: each for name, each in evidence.tallies.items() if len(each)}
    white = [tallies[name] for name in evidence.only(gradients=True) if name in tallies]
    if not white:
        return
    union = np.any([each.fooled for each in white], axis=0) | evidence.signs.broken
    settled = union | np.all([each.known for each in white], axis=0)
    for name in evidence.only(gradients=False):
        if each := tallies.get(name):
            skipped = each.skipped & union
            shared = settled & (each.known | skipped)
            for gap, p in _beats((each.fooled | skipped)[shared], union[shared], each.count[shared]):
                yield (
                    f"{name}, without gradients, breaks {_points(gap, p)} more than all attacks with them, so that the "
                    "worst case is an upper bound; an attack with gradients fitted to the model (--attack FILE.py), "
                    "which breaks as much, settles it"
                )


def _beats(first: Array, second: Array, count: Array) -> list[tuple[float, float]]:
    """By how much `first` breaks more than `second` on the same examples, `count` [N] of each kind, with McNemar's p;
    empty if it may not."""
    only_first, only_second = int(count[first & ~second].sum()), int(count[second & ~first].sum())
    gap = (only_first - only_second) / max(int(count.sum()), 1)
    if gap <= POINTS:
        return []
    p = mcnemar(only_first, only_second)
    return [(gap, p)] if p < SIGNIFICANCE else []


def _points(gap: float, p: float) -> str:
    return f"{100 * gap:.1f} points (p = {p:.1g})"
