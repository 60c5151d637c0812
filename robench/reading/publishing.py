"""Writes the leaderboard of everything in the ledger: as CSV, as Markdown, and as a page."""

from pathlib import Path

import pandas as pd

from robench.reading import page, ranking


def publish(results: Path | str = "results") -> pd.DataFrame:
    """leaderboard.csv, .md and .html into the results folder, from one reading; gives the leaderboard."""
    found = page.survey(results)
    page.write(found, results)
    frame = ranking.frame_of(found.runs, results)
    ranking.write(frame, results)
    return frame


def paths(results: Path | str) -> list[Path]:
    """What `publish` writes."""
    return [*ranking.paths(results), page.path(results)]
