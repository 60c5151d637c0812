"""What is in a folder of results."""

from pathlib import Path

import pandas as pd

from robench.reports import comparison, drawing, ranking, seeds, tables
from robench.reports.comparison import Comparison
from robench.reports.figure_data import Drawing
from robench.utils.arguments import checked


@checked
def leaderboard(results: Path | str = "results", *, over_seeds: bool = False) -> pd.DataFrame:
    """Returns everything the ledger holds, one row a model, or one for all seeds of a recipe; accuracies are fractions.

    The columns are those of `robench.reports.ranking.frame_of`, or of `robench.reports.seeds.over_seeds`. Raises
    UserError where there is nothing to rank.
    """
    frame = ranking.leaderboard(results)
    return seeds.over_seeds(frame) if over_seeds else frame


@checked
def compare(first: str, second: str, results: Path | str = "results") -> list[Comparison]:
    """Compares two models of the ledger on the examples they share, for each data set and threat that both met.

    first, second: their names in the ledger, or the beginnings of them. Raises UserError where there is no such model.
    """
    return comparison.compare(first, second, results)


@checked
def table(id: str, results: Path | str = "results") -> list[tables.Grid]:
    """Returns a paper's table, a part for each data set: what is printed and what was measured.

    id: one of `robench list tables`; UserError where there is no such table.
    """
    return tables.build(id, results)


@checked
def figure(id: str, results: Path | str = "results") -> Drawing:
    """Returns a paper's figure, drawn from what was measured, with its caption and data.

    id: one of `robench list figures`; UserError where there is no such figure.
    """
    return drawing.draw(id, results)
