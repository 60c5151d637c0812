"""What an evaluation found, computed from its cells of the ledger and from nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from robench.ledger import CLEAN, DIAGNOSIS, UNFINISHED, Cell
from robench.stats import Interval, wilson
from robench.verdict import Evidence, Verdict, judge_evaluation


@dataclass(frozen=True)
class AttackSummary:
    """One attack. `accuracy` is over the examples that did not end in an error; it is None where all did that are
    correct when clean, or where some were skipped because another attack had broken them. `kills` are of examples
    correct when clean, `unique` those among them that every other attack left, where all were tried."""

    accuracy: Interval | None
    spread: float | None
    """of the accuracy over the draws of a stochastic model"""
    accuracy_final: float | None
    n_run: int
    kills: int
    unique: int | None
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
    mode: str
    clean: Interval
    spread: float | None
    """of the clean accuracy over the draws of a stochastic model"""
    attacks: Mapping[str, AttackSummary]
    worst_case: Interval | None
    """over the examples that an attack broke or that every attack finished"""
    verdict: Verdict
    skipped: Mapping[str, str]
    """attacks of the suite that could not be run, with the reason"""
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
            "mode": self.mode,
            "clean": {**_accuracy(self.clean), "spread": self.spread},
            "attacks": attacks,
            "worst_case": _accuracy(self.worst_case),
            "verdict": asdict(self.verdict),
            "skipped": dict(self.skipped),
            "ledger": list(self.ledger),
        }


def summarise(
    cells: Mapping[str, Cell], n: int | None = None, mode: str = "columns", left_out: Mapping[str, str] | None = None
) -> Summary:
    """From the cells of one model by the name of their attack, the clean one among them.

    Every accuracy is over the same examples: those in all cells, of the first `n` where it is given.
    """
    everything = {name: cell.rows() for name, cell in cells.items() if name != DIAGNOSIS}
    shared = set.intersection(*(set(frame["example"]) for frame in everything.values()))
    rows = {
        name: frame[frame["example"].isin({example for example in shared if n is None or example < n})]
        for name, frame in everything.items()
    }
    clean = rows.pop(CLEAN)
    unique = _unique_kills(rows)
    about = cells[CLEAN].about
    return Summary(
        model=about["model"],
        dataset=about["dataset"],
        threat=f"{about['norm']} {about['eps']}",
        n=len(clean),
        mode=mode,
        clean=wilson(int((~clean["fooled"]).sum()), len(clean)),
        spread=_spread(clean),
        attacks={name: _summarise_attack(frame, unique.get(name)) for name, frame in rows.items()},
        worst_case=_worst_case(rows),
        verdict=judge_evaluation(_evidence(cells, rows)),
        skipped=dict(left_out or {}),
        ledger=[str(cell.path) for cell in cells.values()],
    )


def _evidence(cells: Mapping[str, Cell], rows: Mapping[str, pd.DataFrame]) -> Evidence:
    about = {name: cells[name].about for name in rows}
    of_model = cells[CLEAN].about
    return Evidence(
        rows=rows,
        access={name: about[name].get("access") or "gradients" for name in rows},
        settings={name: cells[name].key["attack"] for name in rows},
        classes=of_model["classes"],
        static=any(about[name].get("protocol") == "static" for name in rows),
        draws=min((about[name]["draws"] for name in rows if about[name].get("draws")), default=None),
        mixes=bool(of_model.get("mixes")),
        unseeded=bool(of_model.get("unseeded")),
        diagnosis=cells[DIAGNOSIS].found if DIAGNOSIS in cells else None,
    )


def _spread(rows: pd.DataFrame) -> float | None:
    """The standard deviation of the accuracy over draws of a stochastic model, if each example's are independent."""
    shares = rows["share_right"].dropna()
    return float((shares * (1 - shares)).sum() ** 0.5 / len(rows)) if len(shares) else None


def _unique_kills(rows: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """How many examples each attack broke that no other did; nothing where one was spared some."""
    if not rows or any((frame["status"] == "skipped").any() for frame in rows.values()):
        return {}
    fooled = pd.DataFrame({name: frame.set_index("example")["fooled"].fillna(False) for name, frame in rows.items()})
    alone = fooled[fooled.sum(axis=1) == 1]
    frames = [frame.set_index("example") for frame in rows.values()]
    mistakes = frames[0]["clean_prediction"] != frames[0]["label"]
    return {name: int(alone.loc[~mistakes.loc[alone.index], name].sum()) for name in rows}


def _summarise_attack(rows: pd.DataFrame, unique: int | None) -> AttackSummary:
    run = rows[~rows["status"].isin(UNFINISHED)]
    mistakes = rows["clean_prediction"] != rows["label"]
    whole = (len(run) > mistakes.sum() or mistakes.all()) and not (rows["status"] == "skipped").any()
    final = run["fooled_final"].dropna()
    return AttackSummary(
        accuracy=wilson(int((~run["fooled"]).sum()), len(run)) if whole else None,
        spread=_spread(run) if whole else None,
        accuracy_final=float((~final).mean()) if whole and len(final) else None,
        n_run=len(run),
        kills=int((run["fooled"] & (run["clean_prediction"] == run["label"])).sum()),
        unique=unique,
        invalid=int((rows["status"] == "invalid").sum()),
        errors=int((rows["status"] == "error").sum()),
        seconds=float(rows["seconds"].sum()),
        forwards=int(rows["forwards"].sum()),
        backwards=int(rows["backwards"].sum()),
        queries=int(rows["queries"].sum()),
        message=next(iter(rows["message"].dropna()), None),
    )


def _worst_case(rows: Mapping[str, pd.DataFrame]) -> Interval | None:
    """Per example over the battery (eq. 12 of Adversarial Distributional Training), where that is known."""
    if not rows:
        return None
    frames = [frame.set_index("example") for frame in rows.values()]
    broken = pd.concat([f["fooled"].fillna(False) | (f["status"] == "skipped") for f in frames], axis=1).any(axis=1)
    erred = pd.concat([frame["status"] == "error" for frame in frames], axis=1).any(axis=1)
    known = broken | ~erred  # an example that one attack broke is broken, whatever became of the others
    tried = frames[0]["clean_prediction"] == frames[0]["label"]
    if tried.any() and not (known & tried).any():  # all that is known are the model's own mistakes
        return None
    return wilson(int((known & ~broken).sum()), int(known.sum()))


def _accuracy(interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {"accuracy": None, "low": None, "high": None}
    return {"accuracy": interval.value, "low": interval.low, "high": interval.high}
