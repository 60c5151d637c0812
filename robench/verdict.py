"""Whether a robust accuracy can be trusted, from the ledger alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np

from robench.stats import mcnemar, wilson
from robench.tally import Array, Tally

POINTS = 0.02
SIGNIFICANCE = 0.01
ENOUGH = 100
"""Examples below which the checks have no power."""

LOST = 0.05
"""The share of examples without a gradient that is too many."""


@dataclass(frozen=True)
class Verdict:
    """`reliable` is False where a check failed, with the evidence and what would settle it in `reasons`; None where
    none did but some could not be made, with what they lack; True where all were made and passed."""

    reliable: bool | None
    reasons: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return {True: "reliable", None: "provisional", False: "unreliable"}[self.reliable]


@dataclass(frozen=True)
class Evidence:
    """One evaluation: of each attack, by its name, the tally (all over the same examples), what it may see and its
    settings; then how the model behaves and what the diagnosis found (None where it was not made)."""

    tallies: Mapping[str, Tally]
    access: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]
    classes: int
    static: bool = False
    draws: int | None = None
    """of a stochastic model"""
    mixes: bool = False
    unseeded: bool = False
    """draws that no seed repeats"""
    diagnosis: Mapping[str, Any] | None = None

    @property
    def count(self) -> Array:
        """How many examples each row of the tallies stands for [N]."""
        return next(iter(self.tallies.values())).count

    @cached_property
    def fooled(self) -> dict[str, Array]:
        """Whether each row's examples fell [N], for the attacks that finished on all of them."""
        return {name: each.fooled for name, each in self.tallies.items() if len(each) and each.known.all()}


def judge_evaluation(evidence: Evidence) -> Verdict:
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
    if reasons := [reason for check in checks for reason in check(evidence)]:
        return Verdict(False, reasons)
    lacking = list(_lacking(evidence))
    return Verdict(None if lacking else True, lacking)


def _lacking(evidence: Evidence) -> Iterator[str]:
    """What keeps a verdict from being more than provisional."""
    if not any(each.correct.any() for each in evidence.tallies.values()):
        yield "no example is classified correctly, so there was none to attack"
        return
    kinds = {access == "gradients" for name, access in evidence.access.items() if name in evidence.tallies}
    if True not in kinds:
        yield "no attack with gradients was run (--suite white_box has them)"
    if False not in kinds:
        yield "no attack without gradients was run (--suite black_box has them)"
    if any(each.n < ENOUGH for each in evidence.tallies.values()):
        yield f"fewer than {ENOUGH} examples were attacked (--n {ENOUGH})"
    if evidence.unseeded:
        yield "the model draws from a generator of its own, so no two runs agree (torch's global one could be seeded)"
    if evidence.diagnosis is None:
        yield "the model's gradients were not probed (robench eval does)"


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


def _no_gradient(evidence: Evidence) -> Iterator[str]:
    found = evidence.diagnosis or {}
    for name, what, cure in (
        ("zero", "the gradient is zero", "a differentiable stand-in for what has no slope, or --suite black_box,"),
        ("nonfinite", "the gradient is not finite", "--suite black_box"),
        ("saturated", "the softmax is saturated", "--attack cw-100 --attack apgd-t, on the logits,"),
    ):
        count, probed = found.get(name, 0), _correct(found)
        if count > LOST * probed:
            yield f"{what} on {count} of {probed} examples; {cure} settles it"


def _stands_beyond_reason(evidence: Evidence) -> Iterator[str]:
    found = evidence.diagnosis
    if found and found["probed"]:
        standing, probed, chance = sum(found["standing"]["extreme"]), found["probed"], _chance(evidence, found)
        if wilson(standing, probed).low > chance:
            shares = f"{100 * standing / probed:.0f} % (chance is {100 * chance:.0f} %)"
            yield f"PGD at {found['extreme']}, within reach of grey, leaves {shares}; --suite black_box settles it"


def _chance(evidence: Evidence, found: Mapping[str, Any]) -> float:
    """What a model is right on that gives every image the class of a grey one."""
    return max(1 / evidence.classes, int(found.get("most", 0)) / int(found["probed"]))


def _larger_balls_are_safer(evidence: Evidence) -> Iterator[str]:
    for gap, p in _probes(evidence, "eps", "twice"):
        yield f"PGD breaks {_points(gap, p)} more at eps than at twice that; --suite black_box settles it"


def _more_draws_break_more(evidence: Evidence) -> Iterator[str]:
    for gap, p in _probes(evidence, "more draws", "eps"):
        more = 4 * (evidence.draws or 1)
        yield f"PGD breaks {_points(gap, p)} more where it sees {more} draws a step; --draws {more} settles it"


def _probes(evidence: Evidence, stronger: str, weaker: str) -> list[tuple[float, float]]:
    standing = (evidence.diagnosis or {}).get("standing", {})
    if not {stronger, weaker} <= set(standing):
        return []
    strong, weak = (~np.array(standing[name], dtype=bool) for name in (stronger, weaker))
    return _beats(strong, weak, np.ones(len(strong), dtype=np.int64))


def _correct(found: Mapping[str, Any]) -> int:
    return len(found.get("standing", {}).get("eps", []))


# Said of the battery


def _fewer_steps_break_more(evidence: Evidence) -> Iterator[str]:
    fooled = evidence.fooled
    for few, many in permutations(fooled, 2):
        first, second = evidence.settings[few], evidence.settings[many]
        if _steps(first) < _steps(second) and _but_steps(first) == _but_steps(second):
            for gap, p in _beats(fooled[few], fooled[many], evidence.count):
                yield f"{few} breaks {_points(gap, p)} more than {many}; --suite black_box settles it"


def _steps(settings: Mapping[str, Any]) -> int:
    return int(settings.get("settings", {}).get("steps", 0))


def _but_steps(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    others = {name: value for name, value in settings.get("settings", {}).items() if name != "steps"}
    return {**settings, "settings": others}


def _one_step_beats_many(evidence: Evidence) -> Iterator[str]:
    """An attack of one gradient that breaks more than all iterative ones together: the gradient leads nowhere."""
    fooled = {name: column for name, column in evidence.fooled.items() if evidence.access[name] == "gradients"}
    gradients = {name: int(evidence.tallies[name].dearest.max()) for name in fooled}
    draws = evidence.draws or 1
    many = [column for name, column in fooled.items() if gradients[name] > draws]
    if many:
        union = np.any(many, axis=0)
        for one in (name for name in fooled if gradients[name] == draws):
            for gap, p in _beats(fooled[one], union, evidence.count):
                yield (
                    f"{one}, one step, breaks {_points(gap, p)} more than the attacks of more steps; "
                    "--suite black_box settles it"
                )


def _black_box_beats_white_box(evidence: Evidence) -> Iterator[str]:
    """An attack without gradients that breaks more than all those with them together: the gradient is masked.

    Where it ran on survivors only, what gradients had broken counts as broken by both, and what another attack without
    them had is left out.
    """
    tallies = {name: each for name, each in evidence.tallies.items() if len(each)}
    white = [each for name, each in tallies.items() if evidence.access[name] == "gradients"]
    if not white:
        return
    union = np.any([each.fooled for each in white], axis=0)
    settled = union | np.all([each.known for each in white], axis=0)
    for name, each in tallies.items():
        if evidence.access[name] != "gradients":
            spared = each.skipped & union
            shared = settled & (each.known | spared)
            for gap, p in _beats((each.fooled | spared)[shared], union[shared], each.count[shared]):
                yield (
                    f"{name}, without gradients, breaks {_points(gap, p)} more than all attacks with them; an attack "
                    "fitted to the model settles it, until then the worst case is an upper bound"
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
