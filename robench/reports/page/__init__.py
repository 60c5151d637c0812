"""The leaderboard as one page that needs no network: a table for each data set and threat, a view for each model.

It is a pure function of the ledger and the measurements. All numbers are in the page itself and can be read without
JavaScript, which sorts, filters, moves the focus and makes a model's view when that is asked for: until then it is text
that the browser passes over, so that a page of a thousand models opens at once.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robench.reports.evaluations import Run
from robench.reports.page.gallery import Gallery
from robench.reports.page.groups import anchor, details_of, groups_of
from robench.reports.page.plot import HEIGHT, LEFT, RIGHT, WIDTH, plots
from robench.reports.page.survey import Survey, survey, survey_of
from robench.reports.places import APART
from robench.reports.ranking import percent
from robench.utils.files import replacing
from robench.utils.text import cleaned

HERE = Path(__file__).parent

PICTURES = 4_000_000
"""Characters of pictures that the page holds at most, in the order of the leaderboard."""

BESIDE = 20
"""Seeds of a recipe, and other evaluations of the same weights, that a view lists at most."""

DASH = "\N{EN DASH}"

__all__ = ["render", "survey", "survey_of", "write"]


def write(found: Survey, results: Path | str) -> str:
    """leaderboard.html into the results folder; gives its text."""
    text = render(found)
    with replacing(path(results)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def path(results: Path | str) -> Path:
    return Path(results) / "leaderboard.html"


def render(found: Survey) -> str:
    """The same survey gives the same bytes."""
    groups = groups_of(found.runs)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    template = _environment().get_template("page.html.j2")
    return template.render(
        groups=groups,
        models=list(details_of(groups)),
        choices=_choices(found.runs),
        galleries=_within_budget(found),
        unread=found.unread,
        unfinished=found.unfinished,
        anchor=anchor,
        apart=APART,
        plots=plots,
        beside_at_most=BESIDE,
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=lambda value: cleaned(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "interval": lambda interval: f"{percent(interval.low)}{DASH}{percent(interval.high)}",
        "thousands": lambda number: f"{number:,}",
        "significant": lambda number: f"{number:.3g}",
    }
    return environment


def _percent(value: float | None) -> str:
    return DASH if value is None else percent(value)


def _hash(text: str) -> str:
    """What a content security policy calls a block of code."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _choices(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the page's filters offer."""
    offered = {
        "dataset": {run.summary.dataset for run in runs},
        "threat": {run.summary.threat for run in runs},
        "verdict": {str(run.summary.verdict) for run in runs},
        "defense": {run.about["defense"] or "none" for run in runs},
    }
    return {name: sorted(values) for name, values in offered.items()}


def _within_budget(found: Survey) -> dict[str, Gallery]:
    """The galleries that fit, by the id of their run."""
    shown = {run.id: found.galleries[run.id] for run in found.runs if run.id in found.galleries}
    spent = accumulate(gallery.size for gallery in shown.values())
    return {id: gallery for (id, gallery), size in zip(shown.items(), spent, strict=True) if size <= PICTURES}
