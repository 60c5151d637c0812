"""The leaderboard with the seeds of a recipe taken together: what training again would change."""

from collections.abc import Iterator, Sequence

import pandas as pd

from robench.reports.escaping import markdown, pipe
from robench.reports.ranking import FIXED, percent
from robench.reports.sheet import Sheet

WORST = "worst case"
"""The last column before those of the attacks."""

FIXED_MEANS = (
    *("dataset", "threat", "battery", "defense", "settings", "rank", "seeds", "n"),
    *("clean", "clean_spread", "worst_case", "worst_case_spread"),
)


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The trained models of a leaderboard, one row for all the seeds of a recipe: columns `FIXED_MEANS`, then the mean
    under each attack. `seeds` is how many; the spreads are standard deviations over them, missing for a single one."""
    attacks = [name for name in frame.columns if name not in FIXED]
    keys = list(FIXED_MEANS[:5])
    groups = frame[frame["defense"] != ""].groupby(keys, sort=False)
    columns = {"rank": groups["rank"].min(), "seeds": groups["seed"].nunique(), "n": groups["n"].min()}
    for name in ("clean", "worst_case"):
        columns |= {name: groups[name].mean(), f"{name}_spread": groups[name].std()}
    means = pd.DataFrame({**columns, **{name: groups[name].mean() for name in attacks}}).reset_index()
    sections = frame.drop_duplicates(keys[:3]).reset_index(drop=True)
    place = {tuple(section): number for number, section in enumerate(sections[keys[:3]].to_numpy())}
    means["place"] = [place[tuple(section)] for section in means[keys[:3]].to_numpy()]
    means = means.sort_values(["place", "worst_case", "defense"], ascending=[True, False, True])
    return means[[*FIXED_MEANS, *attacks]].reset_index(drop=True)


def to_markdown(means: pd.DataFrame) -> str:
    """A table for each data set, threat and battery; accuracies in percent, with the standard deviation over seeds."""
    lines = []
    for title, header, body in _sections(means):
        alignment = ["---:", "---", *["---:"] * (len(header) - 2)]
        lines += [f"### {markdown(title)}", "", *map(pipe, [header, alignment, *body]), ""]
    return "\n".join(lines)


def to_sheets(means: pd.DataFrame) -> list[Sheet]:
    """The same for a console."""
    return [
        Sheet(f"{title} (accuracies in %)", header, body, words=(1,), keys=2, breaks=(header.index(WORST) + 1,))
        for title, header, body in _sections(means)
    ]


def _sections(means: pd.DataFrame) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, header and lines of each."""
    for (dataset, threat, battery), group in means.groupby(["dataset", "threat", "battery"], sort=False):
        attacks = [name for name in group.columns if name not in FIXED_MEANS and group[name].notna().any()]
        header = ["#", "defense", "seeds", "n", "clean", WORST, *attacks]
        yield f"{dataset}, {threat}: {battery}", header, [_line(row, attacks) for _, row in group.iterrows()]


def _line(row: pd.Series, attacks: Sequence[str]) -> list[str]:
    name = " ".join(filter(None, (row["defense"], row["settings"])))
    rank = "-" if pd.isna(row["rank"]) else str(row["rank"])
    fixed = [rank, name, str(row["seeds"]), str(row["n"]), _with_spread(row, "clean"), _with_spread(row, "worst_case")]
    return [*fixed, *(percent(row[attack]) for attack in attacks)]


def _with_spread(row: pd.Series, name: str) -> str:
    spread = row[f"{name}_spread"]
    return percent(row[name]) + ("" if pd.isna(spread) else f" ± {percent(spread)}")
