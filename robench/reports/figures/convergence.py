"""Loss and accuracy against the steps of an attack, a line for each model."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas

from robench.reports.captions import caption, nothing_yet
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.palette import COLORS, label_ends

PANELS = (("loss", "Classification loss", "Mean cross-entropy (nats)"), ("accuracy", "Accuracy", "Accuracy (%)"))


def draw(sources: FigureData) -> Drawing:
    """`models` of the settings: what the paper prints for each defense."""
    measured = sources.comparable("convergence")
    found = {each.about["defense"]: each for each in measured}
    names = {printed: defense for printed, defense in sources.settings["models"].items() if defense in found}
    if not names:
        return nothing_yet(sources)
    data = pd.concat([_course(name, found[defense].found) for name, defense in names.items()], ignore_index=True)
    canvas = Canvas(figsize=(8.4, 3.1), layout="constrained")
    for axes, (column, title, label) in zip(canvas.subplots(1, 2), PANELS, strict=True):
        ends = []
        for colour, (name, course) in zip(COLORS, data.groupby("model", sort=False), strict=False):
            values = course[column] * (100 if column == "accuracy" else 1)
            axes.plot(course["step"], values, color=colour)
            ends.append((float(values.iloc[-1]), str(name), colour))
        axes.set(xlabel="Steps of the attack", ylabel=label, title=title)
        axes.margins(x=0.01)
        label_ends(axes, ends)
    last = data.groupby("model", sort=False).last()
    numbers = ", ".join(f"{name} {row['loss']:.3f} and {100 * row['accuracy']:.1f} %" for name, row in last.iterrows())
    attack = measured[0].about["settings"]["attack"]
    text = caption(
        sources,
        [found[defense] for defense in names.values()],
        f"Expected over the distribution that the attack ({attack}) has learned by a step, all images alike",
        f"Loss and accuracy after {int(data['step'].max())} steps: {numbers}",
    )
    return Drawing(canvas, data, text)


def _course(name: str, found: Mapping[str, Any]) -> pd.DataFrame:
    steps = range(len(found["loss"]))
    return pd.DataFrame({"model": name, "step": steps, "loss": found["loss"], "accuracy": found["accuracy"]})
