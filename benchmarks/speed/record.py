"""What was found: rows for the terminal and for a CSV file."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd
from scoring import Score
from setting import Setting
from timing import Times

PARTS = ("pgd", "suite", "precision")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant in one setting; shares are fractions, None is what does not apply."""

    part: str
    """one of `PARTS`"""
    dataset: str
    arch: str
    eps: str
    images: int
    attack: str
    contestant: str
    variant: str = ""
    batch: int | None = None
    rounds: int
    seconds: float
    """the median over rounds"""
    fastest: float
    slowest: float
    call: float | None = None
    """the median of robench's whole evaluations: with its probe, the diagnosis and the ledger"""
    ratio: float | None = None
    """to the floor in part pgd; in part suite of the peers' sum to this one"""
    robust: float | None = None
    """the mean over rounds of the share that survived, scored the same way for all"""
    robust_last: float | None = None
    """by the last iterate alone, where `robust` counts any"""
    robust_told: float | None = None
    """by robench's own ledger, where the run that was scored is not the one that was timed"""
    outside: int | None = None
    """adversarial examples outside the threat, of all rounds: they fool nobody"""
    kills_alone: int | None = None
    """of images that fell in this precision and not in the other, in all rounds"""
    machine: str = ""


def row(setting: Setting, part: str, attack: str, contestant: str, times: Times, **rest: object) -> Row:
    """What the setting and the times say, with the rest."""
    return Row(
        part=part,
        dataset=setting.dataset,
        arch=setting.subject.arch,
        eps=setting.eps_written,
        images=setting.n,
        attack=attack,
        contestant=contestant,
        rounds=len(times.seconds),
        seconds=times.median,
        fastest=min(times.seconds),
        slowest=max(times.seconds),
        **rest,  # type: ignore[arg-type]
    )


def robustness(scores: Sequence[Score]) -> dict[str, float | int]:
    """Of a contestant's rounds."""
    return {
        "robust": sum(score.robust for score in scores) / len(scores),
        "outside": sum(int(score.outside.sum()) for score in scores),
    }


def told(row: Row) -> str:
    """A row as a line."""
    words = [f"  {' '.join(filter(None, (row.contestant, row.variant))):<44}"]
    words.append(f"{row.seconds:9.2f} s [{row.fastest:.2f}, {row.slowest:.2f}]".ljust(30))
    if row.ratio is not None:
        words.append(f"{row.ratio:5.2f} {'of the floor' if row.part == 'pgd' else 'times faster'}")
    if row.robust is not None:
        words.append(f"robust {100 * row.robust:5.1f} %")
    if row.robust_last is not None:
        words.append(f"(last iterate {100 * row.robust_last:.1f} %)")
    if row.robust_told is not None:
        words.append(f"(its ledger {100 * row.robust_told:.1f} %)")
    if row.kills_alone is not None:
        words.append(f"{row.kills_alone} kills that the other lacks")
    if row.batch is not None:
        words.append(f"batch {row.batch}")
    if row.outside:
        words.append(f"{row.outside} OUTSIDE THE THREAT")
    return "  ".join(words)


def on(machine: str, row: Row) -> Row:
    return replace(row, machine=machine)


def together(rows: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """With the rows of earlier runs whose race is not among these."""
    run = {_race(row) for row in rows}
    return sorted([*(row for row in earlier if _race(row) not in run), *rows], key=lambda row: PARTS.index(row.part))


def _race(row: Row) -> tuple[object, ...]:
    """What contestants have in common."""
    return row.part, row.dataset, row.eps, row.images, row.attack if row.part != "suite" else None


def read(path: Path) -> list[Row]:
    """Of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    frame = pd.read_csv(path, dtype={"eps": str}).fillna({"variant": ""}).astype(object)
    return [Row(**values) for values in frame.where(frame.notna(), None).to_dict("records")]


def write(rows: Sequence[Row], path: Path) -> None:
    """As CSV, whole."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for each in rows:
            found = asdict(each).items()
            writer.writerow({name: f"{value:.4g}" if isinstance(value, float) else value for name, value in found})
