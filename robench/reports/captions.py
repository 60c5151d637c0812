"""What a figure's caption says of where its numbers come from."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from robench.ledger.measurements import Measurement
from robench.reports.figure_data import Drawing, FigureData


def caption(sources: FigureData, measured: Sequence[Measurement], *sentences: str) -> str:
    """`written`, from the conditions of measurements that may stand side by side on."""
    paper = sources.figure.dataset
    lacking = [f"Nothing is measured yet on {paper}, the paper's data set"] if measured[0].dataset != paper else []
    return written(sources, conditions(measured), *lacking, *sentences)


def written(sources: FigureData, *sentences: str) -> str:
    """Title and paper, the sentences, and from the figure's settings a `note` if any, and what the paper had,
    `original`."""
    figure = sources.figure
    note = [sources.settings["note"]] if "note" in sources.settings else []
    parts = [f"{figure.title} ({figure.paper})", *sentences, *note, f"The paper: {sources.settings['original']}"]
    return " ".join(f"{part.rstrip('.')}." for part in parts)


def conditions(measured: Sequence[Measurement]) -> str:
    """Data set, network, threat, number of images and schedule."""
    about = measured[0].about
    images = measured[0].found["images"]
    number = "1 image" if images == 1 else f"{images:,} images"
    schedules = {str(each.about["defense"]): schedule(each) for each in measured if each.about["recipe"]}
    trained = "; ".join(
        f"{', '.join(name for name, its in schedules.items() if its == one)} trained for {one}"
        for one in dict.fromkeys(schedules.values())
    )
    of = f"Measured on {number} of {about['dataset']}, {about['arch']}, {about['norm']} {about['eps']}"
    return f"{of}; {trained}" if trained else of


class Described(Protocol):
    """A run of the ledger or a measurement: of a model, with names and numbers for people."""

    @property
    def about(self) -> Mapping[str, Any]: ...

    @property
    def dataset(self) -> str: ...


def schedule(described: Described) -> str:
    """How long a model was trained, and on how many images where that was cut."""
    recipe = described.about["recipe"]
    epochs = recipe["setup"]["epochs"]
    length = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    return f"{length} on {recipe['limit']:,} images" if recipe.get("limit") else length


def methods(sources: FigureData, kind: str) -> Mapping[str, str]:
    """The attacks and defenses that a kind of measurement compares, in the order of the figure's file: by the name it
    gives each, what it is."""
    settings = sources.figure.measure[kind]
    return {**settings.get("attacks", {}), **settings.get("defenses", {})}


def told(methods: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {written}" for name, written in methods.items())


def nothing_yet(sources: FigureData) -> Drawing:
    """A figure for which nothing is measured."""
    figure, command = sources.figure, f"robench bench {sources.id}"
    how = f"{command} measures it"
    if "target_domain" in figure.train:
        how = f"{command} --data-root FOLDER measures it from {figure.dataset} to {figure.train['target_domain']}"
    elif figure.trained:
        how = (
            f"{command} --data-root FOLDER measures it on {figure.dataset}, and {command} --dataset digits --epochs 3 "
            "--n 100 on data that ship with robench"
        )
    return Drawing(None, pd.DataFrame(), f"{figure.title} ({figure.paper}): nothing is measured yet; {how}.")
