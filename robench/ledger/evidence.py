"""What a verdict on an evaluation goes by, gathered from its cells."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from robench.access import Sight
from robench.ledger.cell import Cell
from robench.ledger.per_example import Array, Tally
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.signs import Signs


@dataclass(frozen=True)
class Evidence:
    """One evaluation: of each attack, by its name, the tally (all over the same examples), what its parts go by and its
    settings; then how the model behaves and what the diagnosis found (None where it was not made), as a document and
    example by example."""

    tallies: Mapping[str, Tally]
    sights: Mapping[str, Collection[Sight]]
    settings: Mapping[str, Mapping[str, Any]]
    classes: int
    signs: Signs
    static: bool = False
    draws: int | None = None
    """of a stochastic model"""
    mixes: bool = False
    unseeded: bool = False
    """draws that no seed repeats"""
    diagnosis: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, cells: Mapping[str, Cell], tallies: Mapping[str, Tally], clean: Tally) -> "Evidence":
        """From the cells of an evaluation by the name of their attack, and what was read of them."""
        about = {name: cells[name].about for name in tallies}
        of_model = cells[CLEAN].about
        return cls(
            tallies=tallies,
            sights={name: _sights(about[name]) for name in tallies},
            signs=Signs.of(clean.signs),
            settings={name: cells[name].key["attack"] for name in tallies},
            classes=of_model["classes"],
            static=any(about[name].get("protocol") == "static" for name in tallies),
            draws=min((about[name]["draws"] for name in tallies if about[name].get("draws")), default=None),
            mixes=bool(of_model.get("mixes")),
            unseeded=bool(of_model.get("unseeded")),
            diagnosis=cells[DIAGNOSIS].found if DIAGNOSIS in cells else None,
        )

    @property
    def count(self) -> Array:
        """How many examples each row of the tallies stands for [N]."""
        return next(iter(self.tallies.values())).count

    def total(self, chosen: Array) -> int:
        """How many examples the rows chosen by a mask [N] stand for."""
        return int(self.count[chosen].sum())

    @cached_property
    def fooled(self) -> dict[str, Array]:
        """Whether each row's examples are broken [N], for the attacks that finished on all of them."""
        return {name: each.fooled for name, each in self.tallies.items() if len(each) and each.known.all()}

    @cached_property
    def left(self) -> Array:
        """The examples [N] that are right when clean and that nothing broke: whose robustness is in question."""
        one = next(iter(self.tallies.values()))
        broken = np.any([each.fooled | each.skipped for each in self.tallies.values()], axis=0)
        found: Array = one.correct & ~broken & ~self.signs.broken
        return found

    def without(self, runs: Callable[[Sight], bool]) -> Array:
        """The examples [N] left on which no attack with such a part was run to its end."""
        found = self.left
        for name, each in self.tallies.items():
            if any(map(runs, self.sights[name])):
                found = found & ~each.finished
        return found

    def only(self, gradients: bool) -> list[str]:
        """The attacks all of whose parts follow gradients, or none of them."""
        return [name for name in self.tallies if {follows(sight) for sight in self.sights[name]} == {gradients}]


def follows(sight: Sight) -> bool:
    """Whether it goes by gradients."""
    return sight.access == "gradients"


def _sights(about: Mapping[str, Any]) -> list[Sight]:
    """What the parts of an attack go by; rows of before have but their access."""
    if "parts" in about:
        return [Sight(**part) for part in about["parts"].values()]
    return [Sight(about.get("access") or "gradients")]
