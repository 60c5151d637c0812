"""What a queue says: trainings, each with the evaluations of its model, in the order in which they are to be made.

benchmarks/reproduce.yaml is one. Its words are those of a benchmark, but each of its items is one model and stands by
itself. No torch is imported here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from robench.specs import benchmark
from robench.specs.benchmark import Settings
from robench.utils import registry
from robench.utils.errors import UserError, unknown
from robench.utils.registry import Strict
from robench.utils.sizes import Size


class Battery(Strict):
    """Attacks on the first `n` test images of the data set trained on, or of another."""

    attacks: list[str] = Field(min_length=1)
    n: int = Field(gt=0)
    dataset: str | None = None


class Shared(Strict):
    """What items have in common; `evaluations` by the name of the table that each fills."""

    dataset: str
    norm: Literal["linf", "l2"] = "linf"
    eps: Size
    limit: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    train: Settings = {}
    evaluations: dict[str, Battery] = Field(min_length=1)


class Entry(Strict):
    """A recipe with changes to its settings, beyond what it shares with those `like` it."""

    like: str
    defense: str
    settings: Settings = Field(default={}, alias="set")
    seed: int = Field(default=0, ge=0)


class _File(Strict):
    shared: dict[str, Shared]
    queue: dict[str, Entry] = Field(min_length=1)


@dataclass(frozen=True)
class Item:
    """One model: how it is trained, and what attacks it."""

    name: str
    shared: Shared
    defense: str
    own: Settings
    seed: int

    @property
    def changes(self) -> dict[str, Any]:
        """To the settings of its recipe."""
        return {"norm": self.shared.norm, "eps": self.shared.eps, **self.shared.train, **self.own}

    @property
    def evaluations(self) -> Mapping[str, Battery]:
        return self.shared.evaluations

    def attacked(self, battery: Battery) -> str:
        """The data set of an evaluation."""
        return battery.dataset or self.shared.dataset


def load(name: str, only: str = "*") -> list[Item]:
    """The items of a queue of ours, or of a user's .yaml file, whose names match `only`, such as "mnist-*"."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in names():
        path = registry.folder("benchmarks") / f"{name}.yaml"
    else:
        raise unknown("queue", name, names())
    where = f"queue {name}"
    file = registry.parse(_File, registry.read_yaml(path), where)
    for item, entry in file.queue.items():
        if entry.like not in file.shared:
            raise UserError(f"{where}: {item}: {unknown('block', entry.like, file.shared)}")
    found = [
        Item(item, file.shared[entry.like], entry.defense, entry.settings, entry.seed)
        for item, entry in file.queue.items()
        if fnmatch(item, only)
    ]
    if not found:
        raise unknown("item", only, file.queue)
    return found


def names() -> list[str]:
    """Of the queues among our benchmarks."""
    return sorted({*registry.names("benchmarks", "*.yaml")} - {*benchmark.names()})
