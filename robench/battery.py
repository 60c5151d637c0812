"""Configured attacks: a function with its settings, by a catalog name, by a user's file, or by a suite of names."""

import inspect
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from robench import content
from robench.access import Access, Sight, reveals
from robench.classifier import Layer
from robench.content import Strict
from robench.description import Description, describe
from robench.errors import UserError, unknown
from robench.fingerprints import library_imports
from robench.ledger import CLEAN
from robench.resources import KINDS
from robench.search import Search
from robench.settings import assignment, checked
from robench.threat import Norm

Readings = Literal["any", "final"]
"""Whether some iterate fooled the model, or whether the last one did as well (nobody leaves the run then)."""

Mode = Literal["columns", "worst-case"]
"""Every attack on every example, or each on the survivors of the cheaper ones: the same worst case, for less."""


@dataclass(frozen=True)
class Attack:
    """An attack as it is run: `settings` holds every keyword of the function with its value, an `Attack` among them
    where it drives another one."""

    name: str
    function: Callable[..., None]
    settings: dict[str, Any]
    restarts: int = 1
    resources: dict[str, type] = field(default_factory=dict)
    """keywords that the engine fills, with the types that say by what"""
    layers: tuple[Layer, ...] = ()
    """of the features that it looks at"""

    @property
    def file_name(self) -> str:
        """Its name, fit for a file's."""
        return re.sub(r"[^\w.-]+", "_", self.name)

    @property
    def access(self) -> Access:
        return self.function.access  # type: ignore[attr-defined, no-any-return]

    @property
    def companions(self) -> bool:
        return self.function.companions or any(attack.companions for attack in self._driven)  # type: ignore[attr-defined]

    @property
    def stops(self) -> bool:
        return self.function.stops  # type: ignore[attr-defined, no-any-return]

    @property
    def needs(self) -> set[type]:
        """The types of resources that it asks for, by itself or through the attack it drives."""
        return {*self.resources.values(), *(kind for attack in self._driven for kind in attack.needs)}

    @property
    def _driven(self) -> list["Attack"]:
        return [value for value in self.settings.values() if isinstance(value, Attack)]

    def sights(self, classes: int, stochastic: bool) -> dict[str, Sight]:
        """What each of its parts goes by on such a model, by their names: of an attack that is no composite, itself."""
        function: Any = self.function
        if function.drives:
            driven = (attack.sights(classes, stochastic) for attack in self._driven)
            return {name: sight for parts in driven for name, sight in parts.items()}
        if function.parts:
            return dict(function.parts(self.settings, classes, stochastic))
        declared = function.unsaturated
        return {self.name: Sight(self.access, bool(declared(self.settings) if callable(declared) else declared))}

    def __call__(self, search: Search) -> None:
        lent: dict[str, Any] = {keyword: search.resources.of(kind) for keyword, kind in self.resources.items()}
        function = partial(self.function, **self.settings, **lent)
        if self.function.alone:  # type: ignore[attr-defined]
            search.separately(function)
        else:
            function(search)

    def obstacle(self, norm: Norm, gives: Access, shown: Collection[Layer], lent: Collection[type]) -> str | None:
        """Why it cannot be run within a norm, on a model that gives so much and shows these layers of features, with
        these kinds of resources."""
        norms: Sequence[Norm] = self.function.norms  # type: ignore[attr-defined]
        if norm not in norms:
            return f"it is defined for {' and '.join(norms)}, not for {norm}"
        if not reveals(gives, self.access):
            return f"it needs {self.access}, the model gives only {gives}"
        for layer in self.layers:
            if layer not in shown:
                return f"it needs features (layer: {layer}), the model shows {' and '.join(sorted(shown)) or 'none'}"
        lacking = [words for kind, words in KINDS.items() if kind in self.needs and kind not in lent]
        return f"it needs {lacking[0]}, and none were given" if lacking else None

    def key(self) -> dict[str, Any]:
        """What of the attack could change its outcome. Its name cannot."""
        return {
            "function": self.function.__name__,
            "settings": {
                name: value.key() if isinstance(value, Attack) else value for name, value in self.settings.items()
            },
            "restarts": self.restarts,
            "source": self._described.fingerprint,
            "libraries": library_imports(Path(inspect.getsourcefile(self.function) or "")),
            **self._alone,
        }

    @property
    def hidden(self) -> Sequence[str]:
        """What its outcome may depend on that cannot be described, in words."""
        return [*self._described.hidden, *(words for attack in self._driven for words in attack.hidden)]

    @cached_property
    def _alone(self) -> dict[str, str]:
        return {"alone": uuid4().hex} if self._described.hidden else {}

    @cached_property
    def _described(self) -> Description:
        return describe(self.function)


class Suite(Strict):
    """A named list of attacks, how their iterates are read, and on which examples they are run where nobody says."""

    attacks: list[str]
    readings: Readings = "any"
    mode: Mode = "columns"
    minimum: bool = False
    """models that met all of it are ranked together, whatever else they met"""


def attack(written: str) -> Attack:
    """The attack called `written`: a catalog name, FAMILY:NAME or a .py file, then settings if any:
    "pgd-20:restarts=5"."""
    name, colon, tail = written.rpartition(":") if "=" in written.rpartition(":")[2] else (written, "", "")
    given = dict(assignment(part) for part in tail.split(",")) if colon else {}
    entries = content.attack_catalog()
    family = name.partition(":")[0]
    if name.endswith(".py") or (family != name and family in entries):
        entry: dict[str, Any] = {"attack": name}
    elif name in entries:
        entry = entries[name]
    else:
        raise unknown("attack", name, entries)
    settings = {key: value for key, value in entry.items() if key != "attack"} | given
    return configure(content.attack_function(entry["attack"]), settings, name=Path(name).stem + colon + tail)


def configure(function: Callable[..., None], settings: dict[str, Any], *, name: str) -> Attack:
    """Checks the settings against the function's keywords and fills in its defaults."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    hints = {key: parameter.annotation for key, parameter in parameters.items()} | {"restarts": int}
    resources = {key: hints[key] for key in parameters if hints[key] in KINDS}
    values = {key: value.default for key, value in parameters.items() if key not in resources} | {"restarts": 1}
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
    return Attack(name, function, values, restarts, resources, layers)


def suite(name: str) -> Suite:
    known = content.names("benchmarks", "suites/*.yaml")
    if name not in known:
        raise unknown("suite", name, known)
    path = content.folder("benchmarks") / "suites" / f"{name}.yaml"
    return content.parse(Suite, content.read_yaml(path), f"suite {name}")


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
