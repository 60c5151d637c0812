"""The distance between a method's adversarial examples of an image against their number, a panel for each data set."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from robench.ledger.measurements import Measurement
from robench.reports.captions import caption, conditions, methods, nothing_yet, told
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.palette import COLORS, MARKERS, label_ends


def draw(sources: FigureData) -> Drawing:
    """`datasets` of the settings: the paper's panels; of these which are measured, else the data set measured last."""
    panels = [found for dataset in sources.settings["datasets"] if (found := sources.measured_on(dataset, "diversity"))]
    panels = panels or [found for found in [sources.comparable("diversity")] if found]
    if not panels:
        return nothing_yet(sources)
    measured, names = [models[0] for models in panels], methods(sources, "diversity")
    canvas = Canvas(figsize=(5.6 * len(measured), 3.4), layout="constrained")
    data = pd.concat([_readings(each, names) for each in measured], ignore_index=True)
    for axes, each in zip(canvas.subplots(1, len(measured), squeeze=False)[0], measured, strict=True):
        _panel(axes, each, data[data["dataset"] == each.dataset])
    text = caption(
        sources,
        measured[:1],
        *(conditions([each]) for each in measured[1:]),
        f"Points are means over {measured[0].about['settings']['runs']} runs, bars their standard deviations: squared "
        "l2 distance between two examples of an image, averaged over the pairs and the images",
        f"At the largest n: {_numbers(data)}",
        told(names),
    )
    return Drawing(canvas, data, text)


def _panel(axes: Axes, measured: Measurement, data: pd.DataFrame) -> None:
    ends = []
    for colour, marker, (name, line) in zip(COLORS, MARKERS, data.groupby("method", sort=False), strict=False):
        axes.errorbar(
            line["examples"], line["mean"], yerr=line["deviation"], color=colour, marker=marker, markersize=4, capsize=3
        )
        ends.append((float(line["mean"].iloc[-1]), str(name), colour))
    axes.set_ylim(bottom=0)
    axes.set_xticks(measured.found["counts"])
    about = measured.about
    axes.set(
        xlabel="Examples of an image, n",
        ylabel="Squared l2 distance of two examples",
        title=f"{measured.dataset}, {about['arch']}, {about['norm']} {about['eps']}",
    )
    label_ends(axes, ends)


def _readings(measured: Measurement, names: Iterable[str]) -> pd.DataFrame:
    counts, rows = measured.found["counts"], []
    for name in names:
        method = measured.found["methods"][name]
        for count, squared, fooled in zip(counts, method["squared"], method["fooled"], strict=True):
            rows.append((measured.dataset, name, count, np.mean(squared), np.std(squared), fooled))
    return pd.DataFrame(rows, columns=["dataset", "method", "examples", "mean", "deviation", "fooled"])


def _numbers(data: pd.DataFrame) -> str:
    last = data.groupby(["dataset", "method"], sort=False).last().reset_index()
    return "; ".join(
        f"{row['dataset']}, {row['method']} {row['mean']:.3g} ({100 * row['fooled']:.0f} % adversarial)"
        for _, row in last.iterrows()
    )
