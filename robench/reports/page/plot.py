"""The two plots of a model's page, as places in an SVG: accuracy against attack steps, and against their cost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2

from robench.reports.page.details import Attacked, Details
from robench.reports.ranking import percent

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 34, 118, 10, 38
"""margins; labels stand in the right one"""

BATTERY = -1

LINE = 13.0
"""the height of a label"""


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    series: int
    x: float
    y: float


@dataclass(frozen=True)
class Label:
    """A text in the right margin, beside a dot at the same height."""

    text: str
    series: int
    y: float


@dataclass(frozen=True)
class Line:
    series: int
    path: str


@dataclass(frozen=True)
class Plot:
    """`series` are numbers of attacks, from 0; `BATTERY` is all of them."""

    title: str
    across: str
    x: Sequence[Tick]
    y: Sequence[Tick]
    lines: Sequence[Line]
    dots: Sequence[Dot]
    labels: Sequence[Label]


def plots(model: Details) -> list[Plot]:
    """Those that there is something to draw for."""
    return [drawn for draw in (against_steps, against_cost) if (drawn := draw(model.attacks, model.series))]


def against_steps(attacks: Sequence[Attacked], series: Mapping[str, int]) -> Plot | None:
    """A line for each attack whose steps were counted, on a logarithmic axis that begins at 0."""
    curves = {attack.name: attack.course.curve for attack in attacks if attack.course.curve}
    if not curves:
        return None
    across = _Scale(0, max(curve[-1][0] for curve in curves.values()), lambda step: log2(1 + step))
    lines = [Line(series[name], _stairs([(across(x), _height(y)) for x, y in curve])) for name, curve in curves.items()]
    labels = [_label(name, series[name], curve[-1][1]) for name, curve in curves.items()]
    ticks = across.ticks([0, *_round_numbers(across.high)])
    return Plot("Accuracy (%) after so many attack steps", "steps", ticks, HEIGHTS, lines, [], _apart(labels))


def against_cost(attacks: Sequence[Attacked], series: Mapping[str, int]) -> Plot | None:
    """A dot for each attack that has an accuracy, and what the battery leaves as its attacks are run by cost."""
    paid = [attack for attack in attacks if attack.course.cost > 0]
    if not paid:
        return None
    across = _Scale(min(a.course.cost for a in paid) / 1.5, max(a.course.cost for a in paid) * 1.5, log2)
    alone = [(attack, attack.found.accuracy.value) for attack in paid if attack.found.accuracy]
    dots = [Dot(series[attack.name], across(attack.course.cost), _height(accuracy)) for attack, accuracy in alone]
    labels = [_label(attack.name, series[attack.name], accuracy) for attack, accuracy in alone]
    left = [(across(attack.course.cost), attack.course.left) for attack in paid if attack.course.left is not None]
    line = []
    if left:
        line = [Line(BATTERY, _stairs([*((x, _height(y)) for x, y in left), (WIDTH - RIGHT, _height(left[-1][1]))]))]
        labels.append(_label("worst case", BATTERY, left[-1][1]))
    title = "Accuracy (%) by cost: under each attack, and (dotted) under all up to there"
    ticks = across.ticks(_round_numbers(across.high))
    return Plot(title, "passes an example", ticks, HEIGHTS, line, dots, _apart(labels))


@dataclass(frozen=True)
class _Scale:
    """From values between `low` and `high` to places across the plot."""

    low: float
    high: float
    transform: Callable[[float], float]

    def __call__(self, value: float) -> float:
        low, high = self.transform(self.low), self.transform(self.high)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (self.transform(value) - low) / (high - low), 1)

    def ticks(self, values: Iterable[float]) -> list[Tick]:
        """Those of the values within the scale that leave room for their texts."""
        ticks: list[Tick] = []
        for value in values:
            text = f"{value:g}" if value < 1000 else f"{value / 1000:g}k"
            if self.low <= value <= self.high and (not ticks or self(value) - ticks[-1].at >= 26):
                ticks.append(Tick(self(value), text))
        return ticks


def _round_numbers(high: float) -> list[float]:
    """1, 2, 5, 10, 20 ... up to `high`."""
    numbers, decade = [], 1
    while decade <= high:
        numbers += [digit * decade for digit in (1.0, 2.0, 5.0)]
        decade *= 10
    return numbers


def _height(accuracy: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - accuracy), 1)


HEIGHTS = [Tick(_height(share / 100), str(share)) for share in (0, 25, 50, 75, 100)]


def _stairs(places: Sequence[tuple[float, float]]) -> str:
    """A path that goes across before it falls."""
    (x, y), *others = places
    return f"M{x:g} {y:g}" + "".join(f"H{x:g}V{y:g}" for x, y in others)


def _label(name: str, series: int, accuracy: float) -> Label:
    return Label(f"{name} {percent(accuracy)}", series, _height(accuracy))


def _apart(labels: Iterable[Label]) -> list[Label]:
    """The same from above, each at its height or as near to it as the others let it, and none below the plot."""
    placed: list[Label] = []
    for label in sorted(labels, key=lambda label: (label.y, label.text)):
        placed.append(replace(label, y=max(label.y, placed[-1].y + LINE) if placed else label.y))
    lowest = float(HEIGHT)
    for place in reversed(range(len(placed))):
        lowest = min(placed[place].y, lowest - LINE)
        placed[place] = replace(placed[place], y=lowest)
    return placed
