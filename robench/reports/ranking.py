"""All evaluated models side by side, a row each: by data set, threat and battery, best worst case first."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from robench.ledger.cell import Cell
from robench.ledger.summary import Summary
from robench.reports.escaping import csv_of, markdown, pipe
from robench.reports.evaluations import Reading, Run, distinctions, leave_out, nothing_readable
from robench.reports.latex import comments, tabular, tex
from robench.reports.places import APART, Place, places
from robench.reports.sheet import Sheet
from robench.utils.errors import UserError
from robench.utils.files import replacing
from robench.utils.stats import Bounds, Interval

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
    "at_least",
    "at_most",
    "verdict",
    "rank",
    "battery",
    "apart",
    "note",
    "settings",
)


WORST = "worst case [95 %]"
"""The last column before those of the attacks."""


def leaderboard(results: Path | str = "results", only: Callable[[Cell], bool] = lambda cell: True) -> pd.DataFrame:
    """The `frame_of` everything in the ledger; `only` chooses among the cells."""
    reading = Reading.of(results, only)
    leave_out(reading.broken)
    if reading.broken and not reading.runs:
        raise nothing_readable(results, reading.broken)
    return frame_of(ranked(reading.runs), results)


def ranked(evaluated: Iterable[Run]) -> list[Run]:
    """In the order of the leaderboard: see `robench.reports.places`."""
    return [place.run for place in places(evaluated)]


def frame_of(evaluated: Sequence[Run], results: Path | str = "results") -> pd.DataFrame:
    """Columns `FIXED`, then one for each attack; accuracies are fractions, missing where an attack was not run or where
    errors leave it unknown, and then the worst case is `at_least` and `at_most` so much. `rank` is among the rows of
    the same data set, threat and `battery`; `apart` where these are not the ones that most work went into; `note`: why
    a row has no rank, and what it supersedes; `settings` are those in which a model differs from another of its
    defense."""
    if not evaluated:
        raise nothing_in(results)
    told = {run.id: settings for run, settings in zip(evaluated, distinctions(evaluated), strict=True)}
    rows = [_row(place, told[place.run.id]) for place in places(evaluated)]
    attacks = sorted({name for row in rows for name in row} - set(FIXED))
    frame = pd.DataFrame(rows, columns=[*FIXED, *attacks])
    return frame.astype({"rank": "Int64"})


def nothing_in(results: Path | str) -> UserError:
    return UserError(f"there is nothing in {results} to rank yet; robench bench quickstart fills it")


def _row(place: Place, settings: Mapping[str, object]) -> dict[str, object]:
    summary, about = place.run.summary, place.run.about
    worst, unknown = summary.worst_case, summary.worst_case_bounds
    return {
        "model": summary.model,
        "defense": about["defense"] or "",
        "dataset": summary.dataset,
        "threat": summary.threat,
        "seed": about["train_seed"],
        "n": summary.n,
        "clean": summary.clean.value,
        "worst_case": worst.value if worst else None,
        "worst_case_low": worst.low if worst else unknown.least.low if unknown else None,
        "worst_case_high": worst.high if worst else unknown.most.high if unknown else None,
        "at_least": worst.value if worst else unknown.least.value if unknown else None,
        "at_most": worst.value if worst else unknown.most.value if unknown else None,
        "verdict": str(summary.verdict),
        "rank": place.rank,
        "battery": place.battery,
        "apart": not place.leads,
        "note": "; ".join(filter(None, (place.why, place.run.supersedes))),
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
    return csv_of(frame)


def to_markdown(frame: pd.DataFrame) -> str:
    """A table for each data set, threat and battery; accuracies in percent."""
    lines = []
    for title, group in _sections(frame):
        header, body = _cells(group)
        alignment = ["---:", "---", "---"] + ["---:"] * (len(header) - 3)
        notes = [f"- {markdown(note)}" for note in _notes(group)]
        table = map(pipe, [header, alignment, *body])
        lines += [f"### {markdown(title)}", "", *table, "", *notes, *([""] if notes else [])]
    return "\n".join(lines)


def to_latex(frame: pd.DataFrame) -> str:
    """A tabular for each data set, threat and battery; accuracies in percent."""
    lines = []
    for title, group in _sections(frame):
        header, body = _cells(group)
        escaped = [list(map(tex, line)) for line in [header, *body]]
        above = comments([f"{title} (accuracies in %)", *_notes(group)])
        lines += [*above, *tabular("rll" + "r" * (len(header) - 3), escaped[:1], escaped[1:]), ""]
    return "\n".join(lines)


def to_sheets(frame: pd.DataFrame) -> list[Sheet]:
    """For a console, where models go by short names, such as "trades s0"."""
    return [_sheet(title, group.assign(model=_short_names(group))) for title, group in _sections(frame)]


def _sheet(title: str, group: pd.DataFrame) -> Sheet:
    header, body = _cells(group)
    fixed = header.index(WORST) + 1
    return Sheet(f"{title} (accuracies in %)", header, body, _notes(group), words=(1, 2), keys=2, breaks=(fixed,))


def _short_names(group: pd.DataFrame) -> pd.Series:
    """The defense and the seed of each model, where no other has both and the settings too; else its name."""
    short = group["defense"] + " s" + group["seed"].astype("Int64").astype("string")
    told = (group["defense"] != "") & ~pd.concat([short, group["settings"]], axis=1).duplicated(keep=False)
    return short.where(told.fillna(False), group["model"])


def _sections(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows that may be ranked together, with a title."""
    for (dataset, threat, battery), group in frame.groupby(["dataset", "threat", "battery"], sort=False):
        yield f"{dataset}, {threat}: {battery}", group


def _notes(group: pd.DataFrame) -> list[str]:
    """What is said under the table of a section."""
    of_rows = [f"{row['model']}: {row['note']}" for _, row in group.iterrows() if row["note"]]
    return [*([APART] if group["apart"].any() else []), *of_rows]


def write(frame: pd.DataFrame, results: Path | str) -> None:
    """leaderboard.csv and leaderboard.md into the results folder."""
    for path, text in zip(paths(results), (to_csv(frame), to_markdown(frame)), strict=True):
        with replacing(path) as temporary:
            temporary.write_text(text)


def paths(results: Path | str) -> list[Path]:
    return [Path(results) / "leaderboard.csv", Path(results) / "leaderboard.md"]


def _cells(group: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    attacks = [name for name in group.columns if name not in FIXED and group[name].notna().any()]
    header = ["#", "model", "verdict", "n", "clean", WORST, *attacks]
    body = [
        [
            "-" if pd.isna(row["rank"]) else str(row["rank"]),
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
    if not pd.isna(row["worst_case"]):
        return percent_interval(Interval(row["worst_case"], row["worst_case_low"], row["worst_case_high"]))
    return "-" if pd.isna(row["at_least"]) else _unknown(row["at_least"], row["at_most"])


def percent(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{100 * value:.1f}"


def percent_interval(interval: Interval | None) -> str:
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]" if interval else "-"


def estimate(accuracy: Interval | None, bounds: Bounds | None) -> str:
    """An accuracy with its interval or, where errors leave it unknown, what it may be."""
    if bounds is None:
        return percent_interval(accuracy)
    return _unknown(bounds.least.value, bounds.most.value)


def _unknown(least: float, most: float) -> str:
    return f"unknown ({percent(least)} to {percent(most)})"
