"""The commands that read results: `leaderboard`, `compare`, `table` and `figure`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from robench.cli.options import RESULTS, FormatOption, ResultsOption
from robench.cli.output import emit
from robench.reports.formats import LeaderboardFormat, TableFormat
from robench.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def leaderboard(
    format: Annotated[LeaderboardFormat, typer.Option(help="Of what goes to standard output.")] = "table",
    over_seeds: Annotated[
        bool,
        typer.Option("--over-seeds", help="A row for all seeds of a recipe (md, csv or json)."),
    ] = False,
    results: ResultsOption = RESULTS,
) -> None:
    """Rank every model in the ledger; as html it is leaderboard.html in the results folder, with a view of each."""
    from robench.reports import page, publishing

    if over_seeds and format in ("latex", "html"):
        raise UserError(f"expected --over-seeds as table, md, csv or json, got {format}")
    if format == "html":
        print(page.write(page.survey(results), results), end="")
        return
    frame = publishing.publish(results, with_page=False)
    if over_seeds:
        _print_means(frame, format)
    else:
        print_leaderboard(frame, format)


def compare(
    first: Annotated[str, typer.Argument(help="A model's name in the ledger, or the beginning of it.")],
    second: Annotated[str, typer.Argument(help="Another's.")],
    format: FormatOption = "table",
    results: ResultsOption = RESULTS,
) -> None:
    """Two models on the examples they share, with McNemar's test."""
    from robench.reports import report
    from robench.reports.comparison import compare

    found = compare(first, second, results)
    if format == "json":
        emit(report.comparisons(found))
        return
    for each in found:
        emit(report.comparison(each, format))


def table(
    id: Annotated[str, typer.Argument(help="A table's id; robench list tables names them.")],
    format: Annotated[TableFormat, typer.Option(help="Of what goes to standard output.")] = "md",
    results: ResultsOption = RESULTS,
) -> None:
    """A paper's table, the measured beside the published."""
    from robench.reports import tables, typesetting

    print(typesetting.typeset(tables.build(id, results), format))


def figure(
    id: Annotated[str, typer.Argument(help="A figure's id; robench list figures names them.")],
    results: ResultsOption = RESULTS,
) -> None:
    """Draw a paper's figure from what was measured: PNG, SVG and its data as CSV."""
    from robench.reports import drawing

    drawn = drawing.draw(id, results)
    print(drawn.caption)
    if drawn.canvas is not None:
        print("\n".join(str(path) for path in drawing.write(drawn, results, id)))


def print_leaderboard(frame: "pd.DataFrame", format: LeaderboardFormat) -> None:
    """Prints the rows of a leaderboard to standard output."""
    from robench.reports import ranking

    if format == "table":
        emit(ranking.to_sheets(frame))
    elif format == "json":
        print(json.dumps(json.loads(frame.to_json(orient="records")), indent=1))
    else:
        written = {"md": ranking.to_markdown, "csv": ranking.to_csv, "latex": ranking.to_latex}
        print(written[format](frame), end="")


def _print_means(frame: "pd.DataFrame", format: LeaderboardFormat) -> None:
    from robench.reports import ranking, seeds

    means = seeds.over_seeds(frame)
    if format == "table":
        emit(seeds.to_sheets(means))
    elif format == "json":
        print(means.to_json(orient="records", indent=1), end="")
    else:
        print(ranking.to_csv(means) if format == "csv" else seeds.to_markdown(means), end="")
