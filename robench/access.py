"""What an attack declares of itself: how much it may see of the model, what it goes by, and what it is defined for."""

from collections.abc import Callable, Mapping, Sequence
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


Settings = Mapping[str, Any]
Parts = Callable[[Settings, int, bool], Mapping[str, Sight]]
"""(settings, classes of the model, whether it is stochastic) -> the parts of a composite that are run then."""

Function = TypeVar("Function", bound=Callable[..., None])


def sees(
    access: Access,
    *,
    norms: "Sequence[Norm]" = ("linf", "l2"),
    stops: bool = False,
    companions: bool = False,
    alone: bool = False,
    grows: str = "",
    unsaturated: bool | Callable[[Settings], bool] = False,
    drives: bool = False,
    parts: Parts | None = None,
) -> Callable[[Function], Function]:
    """Declares what an attack may see; the search refuses it anything else.

    norms: those it is defined for; stops: its paper ends it at the first success, so that its last iterate means
    nothing more; companions: the outcome of an example depends on the others in its batch, as in most libraries; alone:
    it is given one example at a time, and by raising fails on that one only; grows: the setting that only says how many
    steps are taken, so that a run with fewer is the beginning of one with more, and its last iterate where that stands;
    unsaturated: see `Sight`; drives: it runs the attacks among its settings on the model, and looks at nothing beside
    them; parts: those of a composite from a library, each with what it goes by.
    """

    def declare(attack: Function) -> Function:
        attack.access, attack.norms = access, norms  # type: ignore[attr-defined]
        attack.stops, attack.companions, attack.alone = stops, companions, alone  # type: ignore[attr-defined]
        attack.grows, attack.unsaturated = grows, unsaturated  # type: ignore[attr-defined]
        attack.drives, attack.parts = drives, parts  # type: ignore[attr-defined]
        return attack

    return declare


def family(function: Callable[[str], Callable[..., None]]) -> Callable[[str], Callable[..., None]]:
    """Declares a function that gives attacks by their names in a library: "foolbox:LinfPGD" is what `foolbox` gives
    for "LinfPGD"."""
    function.family = True  # type: ignore[attr-defined]
    return function
