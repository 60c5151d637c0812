"""What an attack declares of itself: how much it may see of the model, what it goes by, and what it is defined for."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from robench.threat import Norm

Access = Literal["labels", "scores", "gradients"]
"""What an attack may see of the model; each level includes those before it."""


def reveals(given: Access, asked: Access) -> bool:
    """Whether a level of access includes another."""
    return get_args(Access).index(asked) <= get_args(Access).index(given)


@dataclass(frozen=True)
class Sight:
    """What an attack, or one part of a composite, goes by. `unsaturated`: it follows logits, features or labels, which
    still differ where the softmax is 1 and 0 and the cross-entropy has no slope."""

    access: Access
    unsaturated: bool = False


def most(levels: Sequence[Access]) -> Access:
    """The level that includes the others."""
    return max(levels, key=get_args(Access).index)


@dataclass(frozen=True)
class Task:
    """What an attack is to be run on, as far as it may stand in the way."""

    norm: "Norm"
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
    norms: "Sequence[Norm]" = ("linf", "l2")
    classes: int = 2
    smallest: int = 1
    unfit: str = ""
    unsaturated: bool = False
    """see `Sight`"""

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


Settings = Mapping[str, Any]


class LeftOut(frozenset[str]):
    """The parts of an ensemble that are not run; the engine fills in a keyword of this type."""


Function = TypeVar("Function", bound=Callable[..., None])


def sees(
    access: Access,
    *,
    norms: "Sequence[Norm]" = ("linf", "l2"),
    asks: Callable[[Settings, Task], Needs] | None = None,
    parts: Callable[[Settings, Task], Mapping[str, Needs]] | None = None,
    elsewhere: bool = False,
    stops: bool = False,
    companions: bool = False,
    alone: bool = False,
    grows: str = "",
    unsaturated: bool | Callable[[Settings], bool] = False,
    drives: bool = False,
) -> Callable[[Function], Function]:
    """Declares what an attack may see; the search refuses it anything else.

    norms: those it is defined for; asks: what else it asks of the model and its images, by its settings and what it is
    run on; parts: likewise of an ensemble, for each of its parts by name; one that cannot be run is left out, and the
    function told so by a keyword of the type `LeftOut`. The attacks that a function drives are its parts too, unless it
    runs them `elsewhere`: on its sources, each of which must give what they ask for.

    stops: its paper ends it at the first success, so that its last iterate means
    nothing more; companions: the outcome of an example depends on the others in its batch, as in most libraries; alone:
    it is given one example at a time, and by raising fails on that one only; grows: the setting that only says how many
    steps are taken, so that a run with fewer is the beginning of one with more, and its last iterate where that stands;
    unsaturated: see `Sight`; drives: it runs the attacks among its settings on the model, and looks at nothing beside
    them.
    """

    def declare(attack: Function) -> Function:
        attack.access, attack.norms = access, norms  # type: ignore[attr-defined]
        attack.asks, attack.parts, attack.elsewhere = asks, parts, elsewhere  # type: ignore[attr-defined]
        attack.stops, attack.companions, attack.alone = stops, companions, alone  # type: ignore[attr-defined]
        attack.grows, attack.unsaturated = grows, unsaturated  # type: ignore[attr-defined]
        attack.drives = drives  # type: ignore[attr-defined]
        return attack

    return declare


def family(function: Callable[[str], Callable[..., None]]) -> Callable[[str], Callable[..., None]]:
    """Declares a function that gives attacks by their names in a library: "foolbox:LinfPGD" is what `foolbox` gives
    for "LinfPGD"."""
    function.family = True  # type: ignore[attr-defined]
    return function
