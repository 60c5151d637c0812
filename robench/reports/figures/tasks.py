"""Accuracy on clean images against a setting of the recipe, a panel for each task: few labels, or another domain."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from robench.reports.captions import nothing_yet, schedule, written
from robench.reports.evaluations import Run
from robench.reports.figure_data import Drawing, FigureData
from robench.reports.figures.choice import lines, listed
from robench.reports.figures.palette import COLORS, label_ends, line, panels

COLUMNS = ("task", "model", "setting", "value", "low", "high", "n", "seed")


def draw(sources: FigureData) -> Drawing:
    """Settings: `models` by their labels are lines over `over`, which the axis calls `axis`, and level where the model
    fixes that setting; `tasks` the paper's, whose panels stand first.

    Bars are 95 % Wilson intervals.
    """
    settings = sources.settings
    shown = {task: lines(runs, settings["models"], settings["over"]) for task, runs in _by_task(sources).items()}
    frame = pd.DataFrame(
        [row for task, by_label in shown.items() for row in _rows(task, by_label, settings["over"])],
        columns=list(COLUMNS),
    )
    if not len(frame):
        return nothing_yet(sources)
    canvas, (row,) = panels(1, len(shown), sources.figure.title, width=4.6)
    for axes, task in zip(row, shown, strict=True):
        axes.set_title(task, fontsize=9)
        _panel(axes, frame[frame["task"] == task], list(settings["models"]), settings["axis"])
    row[0].set_ylabel("accuracy")
    said = [_trained(task, by_label) for task, by_label in shown.items()]
    absent = listed(task for task in settings["tasks"] if task not in shown)
    lacking = [f"Not measured yet: {absent}"] if absent else []
    n = f"n = {listed(sorted(frame['n'].unique()))}; bars are 95 % Wilson intervals"
    return Drawing(canvas, frame, written(sources, *said, n, *_printed(sources), *lacking))


def _by_task(sources: FigureData) -> Mapping[str, Sequence[Run]]:
    """The runs of the figure's models, the paper's tasks first; none of a task that has the baseline alone."""
    models = sources.settings["models"].values()
    swept = {model["defense"] for model in models if sources.settings["over"] not in model}
    found: dict[str, list[Run]] = defaultdict(list)
    for run in sources.runs:
        found[run.task].append(run)
    kept = {task: runs for task, runs in found.items() if any(run.about["defense"] in swept for run in runs)}
    order = dict.fromkeys([*(task for task in sources.settings["tasks"] if task in kept), *kept])
    return {task: kept[task] for task in order}


def _rows(task: str, by_label: Mapping[str, Sequence[Run]], over: str) -> Iterator[dict[str, Any]]:
    for label, runs in by_label.items():
        for run in runs:
            value, low, high = run.summary.clean
            of = {"value": value, "low": low, "high": high, "n": run.summary.n, "seed": run.about["train_seed"]}
            yield {"task": task, "model": label, "setting": run.setting(over), **of}


def _panel(axes: Axes, frame: pd.DataFrame, labels: Sequence[str], axis: str) -> None:
    ticks = sorted(frame["setting"].dropna().unique())
    ends = []
    for place, label in enumerate(labels):
        points = frame[frame["model"] == label]
        if not len(points):
            continue
        if points["setting"].isna().all():
            height = float(points["value"].mean())
            axes.axhline(height, color=COLORS[place], linestyle="--", linewidth=1)
        else:
            aside = 0.05 * (place - (len(labels) - 1) / 2)  # so that no bar hides another
            height = line(axes, points["setting"].map(ticks.index) + aside, points, "value", place)
        ends.append((height, label, COLORS[place]))
    axes.set(xlabel=axis, xlim=(-0.3, len(ticks) - 0.7), xticks=range(len(ticks)))
    axes.set_xticklabels([f"{tick:g}" for tick in ticks])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    label_ends(axes, ends)


def _trained(task: str, by_label: Mapping[str, Sequence[Run]]) -> str:
    """Network, radius and schedules."""
    runs = [run for some in by_label.values() for run in some]
    networks = listed(f"{run.about['arch']} at {run.about['trained_threat']}" for run in runs)
    schedules = {label: listed(map(schedule, some)) for label, some in by_label.items() if some}
    usual = listed(schedules.values())
    told = usual if "," not in usual else "; ".join(f"{label} {length}" for label, length in schedules.items())
    seeds = sorted({run.about["train_seed"] for run in runs})
    return f"On {task}: {networks}, trained for {told}; training seeds {listed(seeds)}"


def _printed(sources: FigureData) -> list[str]:
    """What the paper prints of it."""
    accuracies = [each for each in sources.published if each.metric == "accuracy"]
    told = "; ".join(f"{each.model} {100 * each.fraction:.1f} % on {each.dataset}" for each in accuracies)
    return [f"Published: {told}"] if told else []
