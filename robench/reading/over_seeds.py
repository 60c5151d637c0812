"""The leaderboard with the seeds of a recipe taken together: what training again would change."""

import pandas as pd

from robench.reading.ranking import FIXED, percent, pipe

FIXED_MEANS = (
    *("dataset", "threat", "defense", "settings", "seeds", "n"),
    *("clean", "clean_spread", "worst_case", "worst_case_spread"),
)


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The trained models of a leaderboard, one row for all the seeds of a recipe: columns `FIXED_MEANS`, then the mean
    under each attack. `seeds` is how many; the spreads are standard deviations over them, missing for a single one."""
    attacks = [name for name in frame.columns if name not in FIXED]
    keys = list(FIXED_MEANS[:4])
    groups = frame[frame["defense"] != ""].groupby(keys, sort=False)
    columns = {"seeds": groups["seed"].nunique(), "n": groups["n"].min()}
    for name in ("clean", "worst_case"):
        columns |= {name: groups[name].mean(), f"{name}_spread": groups[name].std()}
    means = pd.DataFrame({**columns, **{name: groups[name].mean() for name in attacks}}).reset_index()
    order = ["dataset", "threat", "worst_case", "defense"]
    return means.sort_values(order, ascending=[True, True, False, True]).reset_index(drop=True)


def to_markdown(means: pd.DataFrame) -> str:
    """A table for each data set and threat; accuracies in percent, with the standard deviation over seeds."""
    lines = []
    for (dataset, threat), group in means.groupby(["dataset", "threat"], sort=False):
        attacks = [name for name in group.columns if name not in FIXED_MEANS and group[name].notna().any()]
        header = ["defense", "seeds", "n", "clean", "worst case", *attacks]
        body = []
        for _, row in group.iterrows():
            name = " ".join(filter(None, (row["defense"], row["settings"])))
            main = (_with_spread(row, "clean"), _with_spread(row, "worst_case"))
            body.append([name, str(row["seeds"]), str(row["n"]), *main, *(percent(row[attack]) for attack in attacks)])
        alignment = ["---", *["---:"] * (len(header) - 1)]
        lines += [f"### {dataset}, {threat}", "", *map(pipe, [header, alignment, *body]), ""]
    return "\n".join(lines)


def _with_spread(row: pd.Series, name: str) -> str:
    spread = row[f"{name}_spread"]
    return percent(row[name]) + ("" if pd.isna(spread) else f" ± {percent(spread)}")
