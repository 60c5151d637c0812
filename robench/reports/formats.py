"""The formats in which results are written out."""

from typing import Literal

Format = Literal["table", "json", "csv", "md"]
"""Of an evaluation, a verification or a comparison; `table` is for a console."""

LeaderboardFormat = Literal["table", "json", "csv", "md", "latex", "html"]

TableFormat = Literal["md", "csv", "latex", "html"]
"""Of a paper's table."""
