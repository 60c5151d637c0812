"""The runs of a page: grouped by data set, threat and battery, ranked, and each beside those it belongs with."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import pandas as pd

from robench.ledger.schema import CLEAN
from robench.reports.evaluations import Run
from robench.reports.page.details import Details, OverSeeds
from robench.reports.ranking import FIXED, frame_of
from robench.reports.seeds import over_seeds

COLOURS = 8
"""Attacks on a data set within a threat beyond so many are drawn in grey."""


@dataclass(frozen=True)
class RankedGroup:
    """The runs that may be ranked together, in the leaderboard's order. By the id of their run: `rows` of the
    leaderboard, `rank` where it has one, `recipes` where others differ only in their seed."""

    runs: Sequence[Run]
    rows: Mapping[str, Mapping[str, Any]]
    rank: Mapping[str, int]
    recipes: Mapping[str, OverSeeds]

    @property
    def dataset(self) -> str:
        return self.runs[0].summary.dataset

    @property
    def threat(self) -> str:
        return self.runs[0].summary.threat

    @property
    def battery(self) -> str:
        """What they met, on how many examples."""
        return str(self.rows[self.runs[0].id]["battery"])

    @property
    def apart(self) -> bool:
        """Others on the data set within the threat met more."""
        return bool(self.rows[self.runs[0].id]["apart"])

    @property
    def attacks(self) -> list[str]:
        """Those that one of them has an accuracy under."""
        known = {name for row in self.rows.values() for name, value in row.items() if value is not None}
        return sorted(known - set(FIXED))

    @cached_property
    def series(self) -> dict[str, int]:
        """The number by which each attack is coloured."""
        names = sorted({name for run in self.runs for name in run.summary.attacks})
        return {name: min(place, COLOURS) for place, name in enumerate(names)}

    @property
    def over_seeds(self) -> list[OverSeeds]:
        """Best mean worst case first."""
        once = {id(recipe): recipe for recipe in self.recipes.values()}
        return sorted(once.values(), key=lambda recipe: (-(recipe.means["worst_case"] or 0), recipe.means["defense"]))


SECTION = ("dataset", "threat", "battery")
"""What rows share that may be ranked together."""


def groups_of(runs: Sequence[Run]) -> list[RankedGroup]:
    """Of runs in the order of the leaderboard."""
    if not runs:
        return []
    frame = frame_of(runs)
    rows = {run.id: row for run, row in zip(runs, _records(frame), strict=True)}
    recipes = _recipes(runs, rows, _records(over_seeds(frame)))
    groups = []
    for _, members in groupby(runs, key=lambda run: [rows[run.id][name] for name in SECTION]):
        group = {run.id: run for run in members}
        rank = {id: rows[id]["rank"] for id in group if rows[id]["rank"] is not None}
        own = {id: recipe for id, recipe in recipes.items() if id in group}
        groups.append(RankedGroup(list(group.values()), {id: rows[id] for id in group}, rank, own))
    return groups


def _recipes(
    runs: Sequence[Run], rows: Mapping[str, Mapping[str, Any]], means: Sequence[Mapping[str, Any]]
) -> dict[str, OverSeeds]:
    """By the id of each run whose recipe was trained with several seeds."""
    same = (*SECTION, "defense", "settings")
    members: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.about["train_seed"] or 0):
        members[tuple(rows[run.id][name] for name in same)].append(run)
    several = (row for row in means if row["seeds"] > 1)
    recipes = [OverSeeds(members[tuple(row[name] for name in same)], row) for row in several]
    return {run.id: recipe for recipe in recipes for run in recipe.runs}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows, with None for what is missing."""
    known = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(frame.columns, row, strict=True)) for row in known.itertuples(index=False)]


def details_of(groups: Sequence[RankedGroup]) -> Iterator[Details]:
    """Of every run, in the order of the page."""
    of_model = defaultdict(list)
    for run in (run for group in groups for run in group.runs):
        of_model[_model(run)].append(run)
    for group in groups:
        for before, run, after in zip([None, *group.runs], group.runs, [*group.runs[1:], None], strict=False):
            yield Details(
                run,
                anchor(run),
                group.rank.get(run.id),
                len(group.rank),
                group.series,
                seeds=group.recipes.get(run.id),
                elsewhere=[other for other in of_model[_model(run)] if other is not run],
                before=before,
                after=after,
            )


def _model(run: Run) -> str:
    return str(run.cells[CLEAN].key["model"])


def anchor(run: Run) -> str:
    """The name of a model's view in an address: readable, and no other run's."""
    return f"/model/{re.sub(r'[^A-Za-z0-9._-]+', '-', run.summary.model)}-{run.id[:6]}"
