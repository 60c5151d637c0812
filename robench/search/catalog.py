"""Attacks by name: of the catalog, of a user's file, of a suite."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robench.ledger.schema import CLEAN
from robench.search.attack import Attack
from robench.search.classifier import Layer
from robench.search.declaration import LeftOut
from robench.search.resources import KINDS
from robench.specs.suite import Suite, suite
from robench.utils import registry
from robench.utils.errors import UserError, unknown
from robench.utils.settings import checked
from robench.utils.sizes import Size


def attack(written: str) -> Attack:
    """The attack called `written`: a catalog name, FAMILY:NAME or a .py file, then settings if any:
    "pgd-20:restarts=5"."""
    name, entry, given = registry.attack_entry(written)
    settings = {key: value for key, value in entry.items() if key != "attack"} | given
    called = Path(name).stem + written.removeprefix(name)
    return configure(registry.attack_function(entry["attack"]), settings, name=called)


def configure(function: Callable[..., None], settings: dict[str, Any], *, name: str) -> Attack:
    """Checks the settings against the function's keywords and fills in its defaults."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    hints = {key: parameter.annotation for key, parameter in parameters.items()} | {"restarts": int}
    resources = {key: hints[key] for key in parameters if hints[key] in KINDS}
    told = next((key for key in parameters if hints[key] is LeftOut), "")
    filled = {*resources, told}
    values = {key: value.default for key, value in parameters.items() if key not in filled} | {"restarts": 1}
    for key, value in settings.items():
        if key not in values:
            raise UserError(f"attack {name}: {unknown('setting', key, values)}")
        values[key] = value
    for key, value in values.items():
        if value is inspect.Parameter.empty:
            raise UserError(f"attack {name}: the setting {key} has no default and was not given")
        if hints[key] is Attack:
            values[key] = attack(str(value))
        else:
            values[key] = checked(value, hints[key], f"attack {name}: {key}")
    restarts = values.pop("restarts")
    layers = tuple(value for key, value in values.items() if hints[key] == Layer)
    lengths = tuple(key for key in values if hints[key] == Size)
    return Attack(name, function, values, restarts, resources, layers, lengths, told)


def battery(suite_name: str | None, attack_names: Sequence[str]) -> tuple[list[Attack], Suite]:
    """The attacks of a suite and those named one by one, each once, in that order; and the suite."""
    chosen = suite(suite_name) if suite_name else Suite(attacks=[])
    if suite_name is None and not attack_names:
        raise UserError("expected a suite or an attack, got neither; try --suite quick")
    attacks = [attack(name) for name in dict.fromkeys([*chosen.attacks, *attack_names])]
    for position, configured in enumerate(attacks):
        if configured.name in [CLEAN, *(other.name for other in attacks[:position])]:
            raise UserError(f"two columns would be called {configured.name!r}; rename the file of one attack")
    return attacks, chosen
