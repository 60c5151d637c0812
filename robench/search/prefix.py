"""Attacks that differ in how many steps they take: one run of the longest shows what the others find."""

from collections.abc import Iterable

from robench.search.catalog import Attack


def longest(attack: Attack, others: Iterable[Attack]) -> Attack:
    """The one whose run begins with a run of this attack and takes the most steps; itself where there is none."""
    return max([attack, *(other for other in others if _begins(attack, other))], key=_steps)


def shorter(attack: Attack, others: Iterable[Attack]) -> dict[int, Attack]:
    """Those with which a run of this attack begins, by their steps."""
    return {_steps(other): other for other in others if _begins(other, attack)}


def _begins(attack: Attack, other: Attack) -> bool:
    grows = attack.function.grows  # type: ignore[attr-defined]
    alike = attack.function is other.function and attack.restarts == other.restarts == 1
    return bool(grows) and alike and _steps(attack) < _steps(other) and _rest(attack) == _rest(other)


def _steps(attack: Attack) -> int:
    return int(attack.settings.get(attack.function.grows, 0))  # type: ignore[attr-defined]


def _rest(attack: Attack) -> dict[str, object]:
    grows = attack.function.grows  # type: ignore[attr-defined]
    return {name: value for name, value in attack.settings.items() if name != grows}
