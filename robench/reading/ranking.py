"""All evaluated models side by side: one row a model, grouped by data set and threat, best worst case first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

import pandas as pd
from rich.table import Table

from robench.atomic import replacing
from robench.errors import UserError
from robench.ledger import Cell
from robench.reading.latex import tabular, tex
from robench.reading.runs import Run, distinctions, runs
from robench.stats import Interval
from robench.summary import Summary

FIXED = (
    "model",
    "defense",
    "dataset",
    "threat",
    "seed",
    "n",
    "clean",
    "worst_case",
    "worst_case_low",
    "worst_case_high",
    "verdict",
    "settings",
)


def leaderboard(results: Path | str = "results", only: Callable[[Cell], bool] = lambda cell: True) -> pd.DataFrame:
    """The `frame_of` everything in the ledger; `only` chooses among the cells."""
    return frame_of(ranked(runs(results, only)), results)


def ranked(evaluated: Iterable[Run]) -> list[Run]:
    """By data set and threat, best worst case first, those whose verdict is `unreliable` below the others."""
    return sorted(evaluated, key=_place)


def _place(run: Run) -> tuple[object, ...]:
    summary = run.summary
    worst = summary.worst_case.value if summary.worst_case else -1.0
    return summary.dataset, summary.threat, summary.verdict.reliable is False, -worst, summary.model


def frame_of(evaluated: Sequence[Run], results: Path | str = "results") -> pd.DataFrame:
    """Columns `FIXED`, then one for each attack; accuracies are fractions, missing where an attack was not run;
    `settings` are those in which a model differs from another of its defense."""
    if not evaluated:
        raise nothing_in(results)
    rows = [_row(run, settings) for run, settings in zip(evaluated, distinctions(evaluated), strict=True)]
    attacks = sorted({name for row in rows for name in row} - set(FIXED))
    return pd.DataFrame(rows, columns=[*FIXED, *attacks])


def nothing_in(results: Path | str) -> UserError:
    return UserError(f"there is nothing in {results} to rank yet; robench bench quickstart fills it")


def _row(run: Run, settings: Mapping[str, object]) -> dict[str, object]:
    summary, about = run.summary, run.about
    worst = summary.worst_case
    return {
        "model": summary.model,
        "defense": about["defense"] or "",
        "dataset": summary.dataset,
        "threat": summary.threat,
        "seed": about["train_seed"],
        "n": summary.n,
        "clean": summary.clean.value,
        "worst_case": worst.value if worst else None,
        "worst_case_low": worst.low if worst else None,
        "worst_case_high": worst.high if worst else None,
        "verdict": str(summary.verdict),
        "settings": " ".join(f"{name}={value}" for name, value in settings.items()),
        **_columns(summary),
    }


def _columns(summary: Summary) -> dict[str, float | None]:
    """The accuracy under each attack; of transfer from several sources the lowest."""
    columns: dict[str, float | None] = {}
    for written, attack in summary.attacks.items():
        name, value = written.partition(" from ")[0], attack.accuracy.value if attack.accuracy else None
        known = [each for each in (columns.get(name), value) if each is not None]
        columns[name] = min(known, default=None)
    return columns


def to_csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def to_markdown(frame: pd.DataFrame) -> str:
    """A table for each data set and threat; accuracies in percent."""
    lines = []
    for (dataset, threat), group in frame.groupby(["dataset", "threat"], sort=False):
        header, body = _cells(group)
        alignment = ["---:", "---", "---"] + ["---:"] * (len(header) - 3)
        lines += [f"### {dataset}, {threat}", "", *map(pipe, [header, alignment, *body]), ""]
    return "\n".join(lines)


def to_latex(frame: pd.DataFrame) -> str:
    """A tabular for each data set and threat; accuracies in percent."""
    lines = []
    for (dataset, threat), group in frame.groupby(["dataset", "threat"], sort=False):
        header, body = _cells(group)
        escaped = [list(map(tex, line)) for line in [header, *body]]
        columns = "rll" + "r" * (len(header) - 3)
        lines += [f"% {dataset}, {threat} (accuracies in %)", *tabular(columns, escaped[:1], escaped[1:]), ""]
    return "\n".join(lines)


def to_rich(frame: pd.DataFrame) -> list[Table]:
    tables = []
    for (dataset, threat), group in frame.groupby(["dataset", "threat"], sort=False):
        header, body = _cells(group)
        table = Table(title=f"{dataset}, {threat} (accuracies in %)")
        for position, name in enumerate(header):
            table.add_column(name, justify="left" if position in (1, 2) else "right")
        for row in body:
            table.add_row(*row)
        tables.append(table)
    return tables


def write(frame: pd.DataFrame, results: Path | str) -> None:
    """leaderboard.csv and leaderboard.md into the results folder."""
    for path, text in zip(paths(results), (to_csv(frame), to_markdown(frame)), strict=True):
        with replacing(path) as temporary:
            temporary.write_text(text)


def paths(results: Path | str) -> list[Path]:
    return [Path(results) / "leaderboard.csv", Path(results) / "leaderboard.md"]


def _cells(group: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    attacks = [name for name in group.columns if name not in FIXED and group[name].notna().any()]
    header = ["#", "model", "verdict", "n", "clean", "worst case [95 %]", *attacks]
    ranks = count(1)
    body = [
        [
            "-" if row["verdict"] == "unreliable" else str(next(ranks)),
            f"{row['model']} ({row['settings']})" if row["settings"] else row["model"],
            row["verdict"],
            str(row["n"]),
            percent(row["clean"]),
            _with_interval(row),
            *(percent(row[name]) for name in attacks),
        ]
        for _, row in group.iterrows()
    ]
    return header, body


def _with_interval(row: pd.Series) -> str:
    if pd.isna(row["worst_case"]):
        return "-"
    return percent_interval(Interval(row["worst_case"], row["worst_case_low"], row["worst_case_high"]))


def percent(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{100 * value:.1f}"


def percent_interval(interval: Interval | None) -> str:
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]" if interval else "-"


def pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
