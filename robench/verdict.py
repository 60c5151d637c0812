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
    reasons = [*_failed_runs(rows), *_one_step_beats_many(rows)]
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
    single = {name: frame for name, frame in rows.items() if len(frame) and frame["backwards"].max() == 1}
    iterative = {name: frame for name, frame in rows.items() if len(frame) and frame["backwards"].max() > 1}
    reasons = []
    for one, one_rows in single.items():
        for many, many_rows in iterative.items():
            pair = one_rows.merge(many_rows, on="example", suffixes=("_one", "_many")).dropna(
                subset=["fooled_one", "fooled_many"]
            )
            only_one = int((pair["fooled_one"] & ~pair["fooled_many"]).sum())
            only_many = int((~pair["fooled_one"] & pair["fooled_many"]).sum())
            p = mcnemar(only_one, only_many)
            if only_one - only_many > POINTS * len(pair) and p < SIGNIFICANCE:
                reasons.append(f"{one}, one step, breaks {only_one} examples that {many} does not (p = {p:.1g})")
    return reasons
