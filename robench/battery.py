"""Configured attacks: a function with its settings, by a catalog name, by a user's file, or by a suite of names."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from robench import content
from robench.content import Strict
from robench.errors import UserError, unknown
from robench.fingerprints import library_imports, source_fingerprint
from robench.ledger import CLEAN
from robench.search import Access, Images, Search
from robench.settings import checked

Readings = Literal["any", "final"]
"""Whether some iterate fooled the model, or whether the last one did as well (nobody leaves the run then)."""


@dataclass(frozen=True)
class Attack:
    """An attack as it is run: `settings` holds every keyword of the function with its value."""

    name: str
    function: Callable[..., None]
    settings: dict[str, Any]
    restarts: int = 1
    resources: tuple[str, ...] = ()
    """keywords that the engine fills with its pool of images"""

    @property
    def access(self) -> Access:
        return self.function.access  # type: ignore[attr-defined, no-any-return]

    @property
    def companions(self) -> bool:
        return self.function.companions  # type: ignore[attr-defined, no-any-return]

    def __call__(self, search: Search, images: Images | None = None) -> None:
        self.function(search, **self.settings, **dict.fromkeys(self.resources, images))

    def key(self) -> dict[str, Any]:
        """What of the attack could change its outcome. Its name cannot."""
        return {
            "function": self.function.__name__,
            "settings": self.settings,
            "restarts": self.restarts,
            "source": source_fingerprint([self._file]),
            "libraries": library_imports(self._file),
        }

    @property
    def _file(self) -> Path:
        return Path(inspect.getsourcefile(self.function) or "")


class Suite(Strict):
    """A named list of attacks and how their iterates are read."""

    attacks: list[str]
    readings: Readings = "any"


def attack(written: str) -> Attack:
    """The attack called `written`: a catalog name or a .py file, then settings if any: "pgd-20:restarts=5"."""
    name, colon, tail = written.rpartition(":") if "=" in written.rpartition(":")[2] else (written, "", "")
    given = dict(assignment(part) for part in tail.split(",")) if colon else {}
    if name.endswith(".py"):
        entry: dict[str, Any] = {"attack": name}
    else:
        entries = content.attack_catalog()
        if name not in entries:
            raise unknown("attack", name, entries)
        entry = entries[name]
    settings = {key: value for key, value in entry.items() if key != "attack"} | given
    return configure(content.attack_function(entry["attack"]), settings, name=Path(name).stem + colon + tail)


def configure(function: Callable[..., None], settings: dict[str, Any], *, name: str) -> Attack:
    """Checks the settings against the function's keywords and fills in its defaults."""
    parameters = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    hints = dict.fromkeys(parameters, Any) | get_type_hints(function) | {"restarts": int}
    resources = tuple(key for key in parameters if hints[key] is Images)
    values = {key: value for key, value in parameters.items() if key not in resources} | {"restarts": 1}
    for key, value in settings.items():
        if key not in values:
            raise UserError(f"attack {name}: {unknown('setting', key, values)}")
        values[key] = value
    for key, value in values.items():
        if value is inspect.Parameter.empty:
            raise UserError(f"attack {name}: the setting {key} has no default and was not given")
        values[key] = checked(value, hints[key], f"attack {name}: {key}")
    restarts = values.pop("restarts")
    return Attack(name, function, values, restarts, resources)


def suite(name: str) -> Suite:
    known = content.names("benchmarks", "suites/*.yaml")
    if name not in known:
        raise unknown("suite", name, known)
    path = content.folder("benchmarks") / "suites" / f"{name}.yaml"
    return content.parse(Suite, content.read_yaml(path), f"suite {name}")


def battery(suite_name: str | None, attack_names: Sequence[str]) -> tuple[list[Attack], Readings]:
    """The attacks of a suite and those named one by one, each once, in that order."""
    chosen = suite(suite_name) if suite_name else Suite(attacks=[])
    if suite_name is None and not attack_names:
        raise UserError("expected a suite or an attack, got neither; try --suite quick")
    attacks = [attack(name) for name in dict.fromkeys([*chosen.attacks, *attack_names])]
    for position, configured in enumerate(attacks):
        if configured.name in [CLEAN, *(other.name for other in attacks[:position])]:
            raise UserError(f"two columns would be called {configured.name!r}; rename the file of one attack")
    return attacks, chosen.readings


def assignment(text: str) -> tuple[str, Any]:
    """A key and its value from "key=value", the value read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"expected settings as key=value, got {text!r}")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"expected a number, a word or a [list] after {key}=, got {value!r}") from None
