"""What an attack declares of itself: how much it may see of the model, what it goes by, and what it is defined for."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

from robench.access import Access, reveals
from robench.threat import Norm
from robench.utils.errors import AttackError

Settings = Mapping[str, Any]
"""Every keyword of an attack with its value."""


@dataclass(frozen=True)
class Task:
    """What an attack is to be run on, as far as it may stand in the way."""

    norm: Norm
    gives: Access
    """what the model shows of itself"""
    classes: int
    shape: Sequence[int]
    """of an image, [C, H, W]"""
    layers: Collection[str] = ()
    """of features that the model shows"""
    resources: Collection[type] = ()
    """kinds that are given, see `robench.search.resources`"""
    stochastic: bool = False
    sources: Sequence["Task"] = ()
    """the same attacked on each of the source models"""


@dataclass(frozen=True)
class Needs:
    """What an attack, or a part of one, asks of its task: access to the model, one of these norms, this many classes,
    and images whose height and width are no smaller than `smallest`. `unfit` says why these do not fit otherwise."""

    access: Access = "labels"
    norms: Sequence[Norm] = ("linf", "l2")
    classes: int = 2
    smallest: int = 1
    unfit: str = ""
    unsaturated: bool = False
    """see `robench.access.Sight`"""

    def obstacle(self, task: Task) -> str | None:
        """Why the task does not give it."""
        height, width = task.shape[-2:]
        if task.norm not in self.norms:
            return f"it is defined for {' and '.join(self.norms)}, not for {task.norm}"
        if not reveals(task.gives, self.access):
            return f"it needs {self.access}, the model gives only {task.gives}"
        if task.classes < self.classes:
            return f"it needs {self.classes} classes, the model has {task.classes}"
        if min(height, width) < self.smallest:
            return f"it needs images of {self.smallest}x{self.smallest} pixels or more, these have {height}x{width}"
        return self.unfit or None


class LeftOut(frozenset[str]):
    """The parts of an ensemble that are not run; the engine fills in a keyword of this type."""


Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(frozen=True)
class Declaration:
    """What is known of an attack before it runs; called with its function, it declares it. The search refuses an attack
    what it has not declared."""

    access: Access
    _: KW_ONLY
    norms: Sequence[Norm] = ("linf", "l2")
    """those it is defined for"""
    asks: Callable[[Settings, Task], Needs] | None = None
    """what else it asks of the model and its images, by its settings and what it is run on"""
    parts: Callable[[Settings, Task], Mapping[str, Needs]] | None = None
    """of an ensemble likewise, for each of its parts by name; one that cannot be run is left out, and the function told
    so by a keyword of the type `LeftOut`. The attacks that a function drives are its parts too, unless `on_sources`"""
    on_sources: bool = False
    """it runs the attacks among its settings on its source models, each of which must give what they ask for"""
    drives: bool = False
    """it runs the attacks among its settings on the model, and looks at nothing beside them"""
    stops: bool = False
    """its paper ends it at the first success, so that its last iterate means nothing more"""
    batch_dependent: bool = False
    """the outcome of an example depends on the others in its batch, as in most libraries"""
    one_at_a_time: bool = False
    """it is given one example at a time, and by raising fails on that one only"""
    prefix_setting: str = ""
    """the setting that only says how many steps are taken: a run with fewer is a prefix of one with more, and its last
    iterate the point where that one is then"""
    unsaturated: bool | Callable[[Settings], bool] = False
    """see `robench.access.Sight`"""

    def __call__(self, attack: Function) -> Function:
        vars(attack)["declaration"] = self
        return attack

    def asked(self, settings: Settings, task: Task) -> list[Needs]:
        """What the attack asks for by itself; of an ensemble each part sees for itself."""
        own = Needs("labels" if self.parts else self.access, self.norms)
        return [own, self.asks(settings, task)] if self.asks else [own]

    def is_unsaturated(self, settings: Settings) -> bool:
        return self.unsaturated(settings) if callable(self.unsaturated) else self.unsaturated


sees = Declaration
"""Declares, above an attack's function, what it may see, and what else a `Declaration` says."""


def declaration_of(attack: Callable[..., None]) -> Declaration:
    """What an attack declares. Raises AttackError for a function that declares nothing."""
    found = getattr(attack, "declaration", None)
    if not isinstance(found, Declaration):
        raise AttackError(f"expected a function under @sees(...), got {getattr(attack, '__name__', attack)}")
    return found


def family(function: Callable[[str], Callable[..., None]]) -> Callable[[str], Callable[..., None]]:
    """Declares a function that gives attacks by their names in a library: "foolbox:LinfPGD" is what `foolbox` gives
    for "LinfPGD"."""
    vars(function)["family"] = True
    return function
