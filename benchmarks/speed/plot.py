"""The rows of attacks.csv as a picture: PGD over the floor, and the suites over the peers' sum."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from record import Row

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {
    "torchattacks": "#9e9e9e",
    "foolbox": "#bdbdbd",
    "adversarial-robustness-toolbox": "#d9d9d9",
    "peers": "#9e9e9e",
}
OURS = ("#0b5394", "#3d85c6", "#b45f06", "#e69138")


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each of the two parts that were run; bars bear the robust accuracy in percent."""
    raced = [row for row in rows if row.part == "pgd" and row.robust is not None]
    whole = [row for row in rows if row.part == "suite" and row.ratio is not None]
    panels = [(part, found) for part, found in (("pgd", raced), ("suite", whole)) if found]
    if not panels:
        return
    widths = [len({_setting(row) for row in found}) + 0.6 for _, found in panels]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.2 * sum(widths), 5.2), squeeze=False, width_ratios=widths, layout="constrained"
    )
    for axis, (part, found) in zip(axes[0], panels, strict=True):
        _bars(axis, found, inverse=part == "suite")
        axis.set_ylabel("time / floor" if part == "pgd" else "time / the peers' one after another")
        axis.axhline(1, color="black", linewidth=0.8)
    machines = "; ".join(dict.fromkeys(row.machine for row in rows))
    figure.supxlabel("\n".join(textwrap.wrap(machines, 110)), fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _setting(row: Row) -> str:
    attack = row.attack.upper() if row.part == "pgd" else f"{len(row.attack.split())} attacks"
    return f"{row.dataset} {row.eps}\n{attack}\n{row.images} images"


def _bars(axis: Axes, rows: Sequence[Row], *, inverse: bool) -> None:
    settings = list(dict.fromkeys(map(_setting, rows)))
    names = list(dict.fromkeys(f"{row.contestant} {row.variant}".strip() for row in rows))
    ours = iter(OURS)
    width = 0.86 / len(names)
    for place, name in enumerate(names):
        mine = [row for row in rows if f"{row.contestant} {row.variant}".strip() == name]
        across = [settings.index(_setting(row)) + (place - (len(names) - 1) / 2) * width for row in mine]
        heights = [1 / (row.ratio or 1) if inverse else (row.ratio or 0) for row in mine]
        colour = COLOURS.get(name) or next(ours)
        drawn = axis.bar(across, heights, width * 0.92, label=name, color=colour)
        axis.bar_label(drawn, [f"{100 * (row.robust or 0):.0f}" for row in mine], fontsize=7, padding=1)
    axis.set_xticks(range(len(settings)), settings, fontsize=8)
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
