"""All evaluated models side by side: one row a model, grouped by data set and threat, best worst case first."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

import pandas as pd
from rich.table import Table

from robench.atomic import replacing
from robench.errors import UserError
from robench.fingerprints import fingerprint
from robench.ledger import CLEAN, DIAGNOSIS, Cell, Ledger, newest
from robench.stats import Interval
from robench.summary import summarise

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
)


def leaderboard(results: Path | str = "results", only: Callable[[Cell], bool] = lambda cell: True) -> pd.DataFrame:
    """Columns `FIXED`, then one for each attack; accuracies are fractions, missing where an attack was not run. Rows
    whose verdict is `unreliable` stand below the others of their data set and threat.

    A model is shown once on a data set and threat: of two trainings of one recipe, architecture and seed the newest,
    and of two runs of one attack on it the wider, then the newer. `only` chooses among the cells.
    """
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in newest(cell for cell in Ledger(results).cells() if only(cell)):
        groups[fingerprint({name: cell.key[name] for name in ("model", "dataset", "threat")})].append(cell)
    rows, shown = [], set()
    for group in groups.values():  # newest first
        cells = _chosen(_as_deployed(group))
        if CLEAN not in cells:
            continue
        identity = _identity(cells[CLEAN])
        if identity not in shown:
            shown.add(identity)
            rows.append(_row(cells))
    if not rows:
        raise UserError(f"there is nothing in {results} to rank yet; robench bench quickstart fills it")
    attacks = sorted({name for row in rows for name in row} - set(FIXED))
    frame = pd.DataFrame(rows, columns=[*FIXED, *attacks])
    frame["unranked"] = frame["verdict"] == "unreliable"
    order = ["dataset", "threat", "unranked", "worst_case", "model"]
    frame = frame.sort_values(order, ascending=[True, True, True, False, True])
    return frame.drop(columns="unranked").reset_index(drop=True)


def _as_deployed(cells: Sequence[Cell]) -> list[Cell]:
    """Without those attacked by the static protocol, where there are others."""
    adaptive = [cell for cell in cells if cell.about.get("protocol") != "static"]
    attacked = any(cell.about["attack"] not in (CLEAN, DIAGNOSIS) for cell in adaptive)
    return adaptive if attacked else list(cells)


def _chosen(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Of the cells of one model, newest first: for each attack the one of most examples, the newest of equals.

    Cells that were only begun are left out, and those that would cut the row to less than a tenth of its examples.
    """
    sizes = {cell.path: len(cell.rows()) for cell in cells}
    widest = max((sizes[cell.path] for cell in cells if cell.about["attack"] != CLEAN), default=0)
    chosen: dict[str, Cell] = {}
    for cell in cells:
        if cell.about["attack"] == DIAGNOSIS and cell.found:
            chosen.setdefault(DIAGNOSIS, cell)
        size, name = sizes[cell.path], cell.about["attack"]
        if size > 0 and size * 10 >= widest and (name not in chosen or size > sizes[chosen[name].path]):
            chosen[name] = cell
    return chosen


def _identity(cell: Cell) -> str:
    """What is shown once on a data set and threat: a recipe as it was run with its seed, or else a model."""
    about, key = cell.about, cell.key
    trained = {name: about[name] for name in ("recipe", "train_seed", "trained_on")}
    what = trained if about["recipe"] else {"model": key["model"]}
    return fingerprint({**what, "dataset": key["dataset"], "threat": key["threat"]})


def _row(cells: Mapping[str, Cell]) -> dict[str, object]:
    summary = summarise(cells)
    about = cells[CLEAN].about
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
        **{name: attack.accuracy.value if attack.accuracy else None for name, attack in summary.attacks.items()},
    }


def to_csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def to_markdown(frame: pd.DataFrame) -> str:
    """A table for each data set and threat; accuracies in percent."""
    lines = []
    for (dataset, threat), group in frame.groupby(["dataset", "threat"], sort=False):
        header, body = _cells(group)
        lines += [f"### {dataset}, {threat}", "", _pipe(header)]
        lines += [_pipe(["---:", "---", "---"] + ["---:"] * (len(header) - 3))]
        lines += [*map(_pipe, body), ""]
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
            row["model"],
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


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
