"""What an attack declares of itself: how much it may see of the model, and what it is defined for."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar, get_args

from robench.threat import Norm

Access = Literal["labels", "scores", "gradients"]
"""What an attack may see of the model; each level includes those before it."""


def reveals(given: Access, asked: Access) -> bool:
    """Whether a level of access includes another."""
    return get_args(Access).index(asked) <= get_args(Access).index(given)


Function = TypeVar("Function", bound=Callable[..., None])


def sees(
    access: Access,
    *,
    norms: Sequence[Norm] = ("linf", "l2"),
    stops: bool = False,
    companions: bool = False,
    alone: bool = False,
    grows: str = "",
) -> Callable[[Function], Function]:
    """Declares what an attack may see; the search refuses it anything else.

    norms: those it is defined for; stops: its paper ends it at the first success, so that its last iterate means
    nothing more; companions: the outcome of an example depends on the others in its batch, as in most libraries; alone:
    it is given one example at a time, and by raising fails on that one only; grows: the setting that only says how many
    steps are taken, so that a run with fewer is the beginning of one with more, and its last iterate where that stands.
    """

    def declare(attack: Function) -> Function:
        attack.access, attack.norms = access, norms  # type: ignore[attr-defined]
        attack.stops, attack.companions, attack.alone = stops, companions, alone  # type: ignore[attr-defined]
        attack.grows = grows  # type: ignore[attr-defined]
        return attack

    return declare


def family(function: Callable[[str], Callable[..., None]]) -> Callable[[str], Callable[..., None]]:
    """Declares a function that gives attacks by their names in a library: "foolbox:LinfPGD" is what `foolbox` gives
    for "LinfPGD"."""
    function.family = True  # type: ignore[attr-defined]
    return function
