"""What an evaluation found, computed from its cells of the ledger and from nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from robench.errors import UserError
from robench.ledger import CLEAN, Cell
from robench.stats import Interval, wilson
from robench.verdict import Verdict, judge_evaluation


@dataclass(frozen=True)
class AttackSummary:
    """One attack. `accuracy` is None where no example could be run; `kills` are of examples correct when clean."""

    accuracy: Interval | None
    accuracy_final: float | None
    n_run: int
    kills: int
    invalid: int
    errors: int
    seconds: float
    forwards: int
    backwards: int
    queries: int
    message: str | None


@dataclass(frozen=True)
class Summary:
    """A model against a battery on the first `n` examples of a set."""

    model: str
    dataset: str
    threat: str
    n: int
    clean: Interval
    attacks: Mapping[str, AttackSummary]
    worst_case: Interval | None
    """over the examples that every attack could run on"""
    verdict: Verdict
    ledger: Sequence[str]
    """the folders of the cells"""

    def to_json(self) -> dict[str, Any]:
        """The object that `eval --format json` prints; accuracies are fractions."""
        attacks = {}
        for name, attack in self.attacks.items():
            fields = asdict(attack)
            fields.pop("accuracy")
            attacks[name] = {**_accuracy(attack.accuracy), **fields}
        return {
            "model": self.model,
            "dataset": self.dataset,
            "threat": self.threat,
            "n": self.n,
            "mode": "columns",
            "clean": _accuracy(self.clean),
            "attacks": attacks,
            "worst_case": _accuracy(self.worst_case),
            "verdict": asdict(self.verdict),
            "ledger": list(self.ledger),
        }


def summarise(cells: Sequence[Cell], n: int | None = None) -> Summary:
    """From the clean cell and one cell an attack, all of one model; of the first `n` examples, or of all there are."""
    by_name = {cell.about["attack"]: cell for cell in cells}
    if CLEAN not in by_name:
        raise UserError(f"expected a clean cell among those of {cells[0].about['model']}, found none")
    clean_cell = by_name.pop(CLEAN)
    clean = _first(clean_cell.rows(), n)
    rows = {name: _first(cell.rows(), n) for name, cell in by_name.items()}
    about = clean_cell.about
    return Summary(
        model=about["model"],
        dataset=about["dataset"],
        threat=f"{about['norm']} {about['eps']}",
        n=len(clean),
        clean=wilson(int((~clean["fooled"]).sum()), len(clean)),
        attacks={name: _summarise_attack(frame) for name, frame in rows.items()},
        worst_case=_worst_case(rows),
        verdict=judge_evaluation(rows),
        ledger=[str(cell.path) for cell in cells],
    )


def _first(rows: pd.DataFrame, n: int | None) -> pd.DataFrame:
    return rows if n is None else rows[rows["example"] < n]


def _summarise_attack(rows: pd.DataFrame) -> AttackSummary:
    run = rows[rows["status"] != "error"]
    final = run["fooled_final"].dropna()
    return AttackSummary(
        accuracy=wilson(int((~run["fooled"]).sum()), len(run)) if len(run) else None,
        accuracy_final=float((~final).mean()) if len(final) else None,
        n_run=len(run),
        kills=int((run["fooled"] & (run["clean_prediction"] == run["label"])).sum()),
        invalid=int((rows["status"] == "invalid").sum()),
        errors=int((rows["status"] == "error").sum()),
        seconds=float(rows["seconds"].sum()),
        forwards=int(rows["forwards"].sum()),
        backwards=int(rows["backwards"].sum()),
        queries=int(rows["queries"].sum()),
        message=next(iter(rows["message"].dropna()), None),
    )


def _worst_case(rows: Mapping[str, pd.DataFrame]) -> Interval | None:
    """Over the examples that every attack has run on (eq. 12 of Adversarial Distributional Training)."""
    if not rows:
        return None
    columns = [frame.set_index("example")["fooled"] for frame in rows.values()]
    fooled = pd.concat(columns, axis=1, join="inner").dropna()
    return wilson(int((~fooled.any(axis=1)).sum()), len(fooled)) if len(fooled) else None


def _accuracy(interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {"accuracy": None, "low": None, "high": None}
    return {"accuracy": interval.value, "low": interval.low, "high": interval.high}
