"""Whether a robust accuracy can be trusted, as far as the ledger's own rows tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from robench.stats import mcnemar

POINTS = 0.02
SIGNIFICANCE = 0.01


@dataclass(frozen=True)
class Verdict:
    """`reliable` is False where a check failed, with the evidence in `reasons`, and None where none did: passing the
    checks made here is not yet a reason to trust a number."""

    reliable: bool | None
    reasons: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "unreliable" if self.reliable is False else "provisional"


def judge_evaluation(rows: Mapping[str, pd.DataFrame]) -> Verdict:
    """From the rows of each attack, by its name."""
    reasons = [*_failed_runs(rows), *_one_step_beats_many(rows), *_black_box_beats_white_box(rows)]
    return Verdict(reliable=False if reasons else None, reasons=reasons)


def _failed_runs(rows: Mapping[str, pd.DataFrame]) -> list[str]:
    reasons = []
    for name, frame in rows.items():
        for status, meaning in (("error", "ended in an error"), ("invalid", "offered images outside the threat")):
            count = int((frame["status"] == status).sum())
            if count:
                reasons.append(f"{name} {meaning} on {count} of {len(frame)} examples")
    return reasons


def _one_step_beats_many(rows: Mapping[str, pd.DataFrame]) -> list[str]:
    """An attack of one gradient that breaks more than an iterative one: the gradient leads nowhere."""
    fooled = _comparable(rows)
    gradients = {name: int(rows[name]["backwards"].max()) for name in fooled}
    return [
        f"{one}, one step, breaks {100 * gap:.1f} points more than {many} (p = {p:.1g})"
        for one in fooled
        for many in fooled
        if gradients[one] == 1 < gradients[many]
        for gap, p in _beats(fooled[one], fooled[many])
    ]


def _black_box_beats_white_box(rows: Mapping[str, pd.DataFrame]) -> list[str]:
    """An attack without gradients that breaks more than all those with them together: the gradient is masked.

    Where it ran on their survivors only, what it was spared counts as broken by both.
    """
    frames = {name: frame.set_index("example") for name, frame in rows.items() if len(frame)}
    white = [frame["fooled"] for frame in frames.values() if frame["backwards"].max() > 0]
    if not white:
        return []
    union = pd.concat([column.fillna(False) for column in white], axis=1).any(axis=1)
    known = union | ~pd.concat([column.isna() for column in white], axis=1).any(axis=1)
    reasons = []
    for name, frame in frames.items():
        if frame["queries"].max() > 0:
            fooled = frame["fooled"].mask(frame["status"] == "skipped", True)
            shared = known & fooled.notna()
            for gap, p in _beats(fooled[shared].astype(bool), union[shared].astype(bool)):
                points = f"{100 * gap:.1f} points more than all attacks with them (p = {p:.1g})"
                reasons.append(f"{name}, without gradients, breaks {points}")
    return reasons


def _comparable(rows: Mapping[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """Whether each example fell, for the attacks that finished on all of them."""
    fooled = {name: frame.set_index("example")["fooled"] for name, frame in rows.items() if len(frame)}
    return {name: column.astype(bool) for name, column in fooled.items() if column.notna().all()}


def _beats(first: pd.Series, second: pd.Series) -> list[tuple[float, float]]:
    """By how much `first` breaks more than `second` on the same examples, with McNemar's p; empty if it may not."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    gap, p = (only_first - only_second) / max(len(first), 1), mcnemar(only_first, only_second)
    return [(gap, p)] if gap > POINTS and p < SIGNIFICANCE else []
