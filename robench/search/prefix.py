"""Attacks that differ in how many steps they take: one run of the longest shows what the others find."""

from collections.abc import Iterable

from robench.search.attack import Attack


def longest(attack: Attack, others: Iterable[Attack]) -> Attack:
    """The one whose run begins with a run of this attack and takes the most steps; itself where there is none."""
    return max([attack, *(other for other in others if _begins(attack, other))], key=_steps)


def shorter(attack: Attack, others: Iterable[Attack]) -> dict[int, Attack]:
    """Those with which a run of this attack begins, by their steps."""
    return {_steps(other): other for other in others if _begins(other, attack)}


def _begins(attack: Attack, other: Attack) -> bool:
    setting = attack.declaration.prefix_setting
    alike = attack.function is other.function and attack.restarts == other.restarts == 1
    return bool(setting) and alike and _steps(attack) < _steps(other) and _rest(attack) == _rest(other)


def _steps(attack: Attack) -> int:
    return int(attack.settings.get(attack.declaration.prefix_setting, 0))


def _rest(attack: Attack) -> dict[str, object]:
    setting = attack.declaration.prefix_setting
    return {name: value for name, value in attack.settings.items() if name != setting}
