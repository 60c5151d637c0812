"""What a figure's caption says of where its numbers come from."""

from collections.abc import Mapping, Sequence

import pandas as pd

from robench.drawing import Drawing, Sources
from robench.measurements import Measurement


def caption(sources: Sources, measured: Sequence[Measurement], *sentences: str) -> str:
    """Title and paper, the conditions of measurements that may stand side by side, what the figure adds to them, and
    from its settings a `note` if any, and what the paper had, `original`."""
    figure = sources.figure
    parts = [f"{figure.title} ({figure.paper})", conditions(measured)]
    if measured[0].dataset != figure.dataset:
        parts.append(f"Nothing is measured yet on {figure.dataset}, the paper's data set")
    note = [sources.settings["note"]] if "note" in sources.settings else []
    parts += [*sentences, *note, f"The paper: {sources.settings['original']}"]
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


def schedule(measurement: Measurement) -> str:
    """How long a model was trained, and on how many images where that was cut."""
    recipe = measurement.about["recipe"]
    epochs = recipe["setup"]["epochs"]
    length = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    return f"{length} on {recipe['limit']:,} images" if recipe.get("limit") else length


def methods(sources: Sources, kind: str) -> Mapping[str, str]:
    """The attacks and defenses that a kind of measurement compares, in the order of the figure's file: by the name it
    gives each, what it is."""
    settings = sources.figure.measure[kind]
    return {**settings.get("attacks", {}), **settings.get("defenses", {})}


def told(methods: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {written}" for name, written in methods.items())


def nothing_yet(sources: Sources) -> Drawing:
    """A figure for which nothing is measured."""
    figure = sources.figure
    command = f"robench bench {sources.id}"
    return Drawing(
        None,
        pd.DataFrame(),
        f"{figure.title} ({figure.paper}): nothing is measured yet; {command} --data-root FOLDER measures it on "
        f"{figure.dataset}, and {command} --dataset digits --epochs 3 --n 100 on data that ship with robench.",
    )
