"""Configured attacks: a function with its settings, by a catalog name, by a user's file, or by a suite of names."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from robench.access import Access, LeftOut, Needs, Sight, Task, most
from robench.ledger.store import CLEAN
from robench.models.description import Description, describe
from robench.search.classifier import Layer
from robench.search.resources import KINDS
from robench.search.search import Search
from robench.specs.choices import Mode
from robench.threat import ThreatModel
from robench.utils import registry
from robench.utils.errors import UserError, unknown
from robench.utils.fingerprints import library_imports
from robench.utils.registry import Strict
from robench.utils.settings import assignment, checked
from robench.utils.sizes import Size

Readings = Literal["any", "final"]
"""Whether some iterate fooled the model, or whether the last one did as well (nobody leaves the run then)."""


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
    lengths: tuple[str, ...] = ()
    """keywords whose values are lengths"""
    told: str = ""
    """the keyword by which the function is told what is left out, if it asks"""
    left_out: LeftOut = LeftOut()  # noqa: RUF009
    """parts that are not run: names of an ensemble's, or the keywords of attacks that it drives"""
    granted: Access | None = None
    """what the parts that are left of an ensemble see; None: what it declares"""

    @property
    def file_name(self) -> str:
        """Its name, fit for a file's."""
        return re.sub(r"[^\w.-]+", "_", self.name)

    @property
    def access(self) -> Access:
        """What it may see of the model, by itself or through the parts that are run."""
        own: Access = self.granted or self.function.access  # type: ignore[attr-defined]
        return most([own, *(attack.access for attack in self._parts_driven.values())])

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
        return [value for key, value in self.settings.items() if isinstance(value, Attack) and key not in self.left_out]

    @property
    def _parts_driven(self) -> dict[str, "Attack"]:
        """The attacks that it drives on the model itself, by their keywords, but for those left out."""
        if self.function.elsewhere:  # type: ignore[attr-defined]
            return {}
        driven = {key: value for key, value in self.settings.items() if isinstance(value, Attack)}
        return {key: attack for key, attack in driven.items() if key not in self.left_out}

    def sights(self, classes: int, stochastic: bool) -> dict[str, Sight]:
        """What each of its parts goes by on such a model, by their names: of an attack that is no composite, itself."""
        function: Any = self.function
        if function.drives:
            driven = (attack.sights(classes, stochastic) for attack in self._parts_driven.values())
            return {name: sight for parts in driven for name, sight in parts.items()}
        if function.parts:
            task = Task("linf", "gradients", classes, (1, 32, 32), stochastic=stochastic)
            run = {name: needs for name, needs in self._library(task).items() if not needs.obstacle(task)}
            return {name: Sight(needs.access, needs.unsaturated) for name, needs in run.items()}
        declared = function.unsaturated
        return {self.name: Sight(self.access, bool(declared(self.settings) if callable(declared) else declared))}

    def __call__(self, search: Search) -> None:
        lent: dict[str, Any] = {keyword: search.resources.of(kind) for keyword, kind in self.resources.items()}
        settings = {key: _nothing if key in self.left_out else value for key, value in self.settings.items()}
        told = {self.told: self.left_out} if self.told else {}
        function = partial(self.function, **settings, **lent, **told)
        if self.function.alone:  # type: ignore[attr-defined]
            search.separately(function)
        else:
            function(search)

    def obstacle(self, task: Task) -> str | None:
        """Why it cannot be run; of one that is made of parts, why none of them can."""
        for needs in self._asked(task):
            if obstacle := needs.obstacle(task):
                return obstacle
        for layer in self.layers:
            if layer not in task.layers:
                return (
                    f"it needs features (layer: {layer}), the model shows {' and '.join(sorted(task.layers)) or 'none'}"
                )
        own = self.resources.values()
        if lacking := [words for kind, words in KINDS.items() if kind in own and kind not in task.resources]:
            return f"it needs {lacking[0]}, and none were given"
        if self.function.elsewhere:  # type: ignore[attr-defined]
            whole = (attack.whole_obstacle(source) for attack in self._driven for source in task.sources)
            return next((f"on a source model, {why}" for why in whole if why), None)
        parts = self._obstacles(task).values()
        if not parts or not all(why for _, why in parts):
            return None
        whys = {why for _, why in parts}
        return str(whys.pop()) if len(whys) == 1 else "; ".join(f"{name}: {why}" for name, why in parts)

    def whole_obstacle(self, task: Task) -> str | None:
        """Why it, or a part of it, cannot be run."""
        return self.obstacle(task) or next((f"{name}: {why}" for name, why in self.unfit(task).items()), None)

    def fitted(self, task: Task) -> "Attack":
        """Without the parts that cannot be run on the task."""
        driven = {key: attack.fitted(task) for key, attack in self._parts_driven.items() if not attack.obstacle(task)}
        unfit = {key for key, (_, obstacle) in self._obstacles(task).items() if obstacle}
        kept = [needs.access for name, needs in self._library(task).items() if name not in unfit]
        return replace(
            self,
            settings=self.settings | driven,
            left_out=LeftOut(self.left_out | unfit),
            granted=most(kept) if kept else None,
        )

    def unfit(self, task: Task) -> dict[str, str]:
        """The parts that cannot be run on the task, by their names for people, with the reasons; and theirs."""
        found = {name: obstacle for name, obstacle in self._obstacles(task).values() if obstacle}
        for attack in self._parts_driven.values():
            if attack.name not in found:
                found |= {f"{name} of {attack.name}": why for name, why in attack.unfit(task).items()}
        return found

    def check_lengths(self, threat: ThreatModel, shape: Sequence[int]) -> None:
        """Refuses settings, its own and those of the attacks that it drives, that no length within the box can be."""
        for key in self.lengths:
            threat.check_length(self.settings[key], shape, f"a {key} of {self.name}")
        for attack in self._driven:
            attack.check_lengths(threat, shape)

    def _asked(self, task: Task) -> list[Needs]:
        """What it asks for by itself; of an ensemble each part sees for itself."""
        function: Any = self.function
        own = Needs("labels" if function.parts else function.access, function.norms)
        return [own, function.asks(self.settings, task)] if function.asks else [own]

    def _library(self, task: Task) -> Mapping[str, Needs]:
        """The parts of an ensemble that are run."""
        parts = self.function.parts  # type: ignore[attr-defined]
        declared: Mapping[str, Needs] = parts(self.settings, task) if parts else {}
        return {name: needs for name, needs in declared.items() if name not in self.left_out}

    def _obstacles(self, task: Task) -> dict[str, tuple[str, str | None]]:
        """Of each part that is run the name for people, and why it cannot be."""
        found = {name: (name, needs.obstacle(task)) for name, needs in self._library(task).items()}
        return found | {key: (attack.name, attack.obstacle(task)) for key, attack in self._parts_driven.items()}

    def key(self) -> dict[str, Any]:
        """What of the attack could change its outcome. Its name cannot."""
        return {
            "function": self.function.__name__,
            "settings": {
                name: value.key() if isinstance(value, Attack) else value for name, value in self.settings.items()
            },
            "restarts": self.restarts,
            **({"left_out": sorted(self.left_out)} if self.left_out else {}),
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
    entries = registry.attack_catalog()
    family = name.partition(":")[0]
    if name.endswith(".py") or (family != name and family in entries):
        entry: dict[str, Any] = {"attack": name}
    elif name in entries:
        entry = entries[name]
    else:
        raise unknown("attack", name, entries)
    settings = {key: value for key, value in entry.items() if key != "attack"} | given
    return configure(registry.attack_function(entry["attack"]), settings, name=Path(name).stem + colon + tail)


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


def _nothing(search: Search) -> None:
    """Stands for an attack that is left out."""


def suite(name: str) -> Suite:
    known = registry.names("benchmarks", "suites/*.yaml")
    if name not in known:
        raise unknown("suite", name, known)
    path = registry.folder("benchmarks") / "suites" / f"{name}.yaml"
    return registry.parse(Suite, registry.read_yaml(path), f"suite {name}")


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
