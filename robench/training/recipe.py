"""A defense's settings from its paper, for each data set: defenses/recipes/NAME.yaml.

A defense without a recipe, and a user's own, has its own defaults and is trained as each data set usually is.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from robench.data.catalog import DATASETS, relative
from robench.threat import Norm, ThreatModel
from robench.training.defense import Defense
from robench.training.setup import SYNONYMS, Setup
from robench.utils import registry
from robench.utils.errors import UserError, unknown
from robench.utils.registry import Strict
from robench.utils.settings import assignment, checked
from robench.utils.sizes import Size

FALLBACK = "cifar10"
"""Whose settings a data set takes that has none of its own and no relative."""


class _Entry(Strict):
    """One data set in a recipe: a named setup, what differs from it, and what differs in the defense's settings."""

    setup: str
    train: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class _RecipeFile(Strict):
    defense: str
    paper: str
    settings: dict[str, Any] = {}
    datasets: dict[str, _Entry]


@dataclass(frozen=True)
class Recipe:
    """A defense and how to train it, resolved for one data set; `settings_of` names whose settings were taken."""

    name: str
    defense: Defense
    setup: Setup
    settings_of: str
    source: str
    """the defense's file: a name under defenses/ or the user's path"""

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel.of(self.setup.norm, self.setup.eps)

    def describe(self) -> dict[str, Any]:
        """Everything that was resolved, JSON-like."""
        setup = self.setup.model_dump(mode="json", exclude_none=True)
        return {"name": self.name, "settings": asdict(self.defense), "setup": setup}


def names() -> list[str]:
    """Of all recipes, and of the defenses without one."""
    return sorted([*registry.recipes(), *registry.bare_defenses()])


def defense_of(name: str, settings: Mapping[str, Any]) -> Defense:
    """The defense that a recipe of ours names, with these settings."""
    return configure(defense_class(_read(name).defense), settings, name)


def resolve(name: str, dataset: str, shape: Sequence[int], changes: Mapping[str, Any]) -> Recipe:
    """The recipe `name`, or the defense of a file without one, for a data set, with `changes` to any of its settings.

    A data set without settings of its own takes those of its relative.
    """
    file = _read(name)
    likely = (dataset, relative(dataset, shape), FALLBACK)
    settings_of = next((known for known in likely if known in file.datasets), None)
    if settings_of is None:
        raise UserError(f"recipe {name} has no settings for {dataset}; it has them for {', '.join(file.datasets)}")
    entry = file.datasets[settings_of]
    kind = defense_class(file.defense)
    return _resolved(name, kind, entry, file, settings_of, shape, changes)


def _read(name: str) -> _RecipeFile:
    if name in registry.recipes():
        return registry.parse(_RecipeFile, registry.recipe(name), f"recipe {name}")
    if not name.endswith(".py") and name not in registry.bare_defenses():
        raise unknown("defense", name, names())
    usual = {dataset: _Entry(setup=dataset) for dataset in _setups() if dataset in DATASETS}
    return _RecipeFile(defense=name, paper="", datasets=usual)


def _resolved(
    name: str,
    kind: type[Defense],
    entry: _Entry,
    file: _RecipeFile,
    settings_of: str,
    shape: Sequence[int],
    changes: Mapping[str, Any],
) -> Recipe:
    hyperparameters = {field.name for field in fields(kind)}
    if shared := hyperparameters & set(Setup.model_fields):
        raise UserError(
            f"defense {name}: {', '.join(sorted(shared))} is a setting of the training; rename the defense's"
        )
    known = hyperparameters | set(Setup.model_fields)
    for key in changes:
        if key not in known:
            raise unknown("setting", key, known, SYNONYMS)
    of_training = {key: value for key, value in changes.items() if key in Setup.model_fields}
    base = {**_setup(entry.setup), **entry.train}
    if of_training.get("schedule") is not None:
        base = {key: value for key, value in base.items() if key not in ("drops", "lr_end")}
    where = f"training settings of {name}"
    if ("mean" in of_training) != ("std" in of_training):
        raise UserError(f"{where}: expected mean and std together, got one of them")
    longest = registry.parse(Setup, base, where)
    factor = registry.parse(Setup, {**base, **of_training}, where).epochs / longest.epochs
    scaled = {
        "drops": [round(drop * factor, 3) for drop in longest.drops],
        "eps_warmup": round(longest.eps_warmup * factor, 3),
    }
    setup = registry.parse(Setup, {**base, **scaled, **of_training}, where)
    of_defense = {key: value for key, value in changes.items() if key in hyperparameters}
    defense = configure(kind, {**file.settings, **entry.settings, **of_defense}, name)
    usual = DefaultThreat(longest.norm, longest.eps, f"{name} for {settings_of}")
    threat = usual.with_(of_training.get("norm"), of_training.get("eps"), shape)
    hints = get_type_hints(kind)
    for key, value in asdict(defense).items():
        if hints[key] == Size:
            threat.check_length(value, shape, f"a {key}")
    return Recipe(name, defense, setup, settings_of, file.defense)


def written(text: str) -> Defense:
    """The defense of a file, with settings if any, as in "trades:beta=6,steps=10"; what is not given is the class's."""
    name, _, tail = text.partition(":")
    settings = dict(assignment(part) for part in tail.split(",")) if tail else {}
    return configure(defense_class(name), settings, name)


def configure(kind: type[Defense], settings: Mapping[str, Any], name: str) -> Defense:
    """The defense with its hyperparameters checked against their types."""
    hints = get_type_hints(kind)
    known = {field.name: field.default for field in fields(kind)}
    if bare := [key for key, default in known.items() if default is MISSING]:
        raise UserError(f"defense {name}: the setting {bare[0]} has no default")
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise UserError(f"defense {name}: {unknown('setting', key, known)}")
        values[key] = checked(value, hints[key], f"defense {name}: {key}")
    try:
        return kind(**values)
    except TypeError as error:  # a user's class that leaves `losses` abstract
        raise UserError(f"defense {name}: {error}") from None


def _setup(name: str) -> dict[str, Any]:
    setups = _setups()
    if name not in setups:
        raise unknown("setup", name, setups)
    return setups[name]


def _setups() -> dict[str, dict[str, Any]]:
    setups: dict[str, dict[str, Any]] = registry.read_yaml(registry.folder("defenses") / "setups.yaml")
    return setups


@dataclass(frozen=True)
class DefaultThreat:
    """A norm with the radius that goes with it, and whose they are ("digits"); eps None: there is no usual one."""

    norm: Norm
    eps: Size | None
    whose: str

    def with_(self, norm: str | None, eps: Size | None, shape: Sequence[int]) -> ThreatModel:
        """The threat of what is given, on images of `shape`. What is not comes from here, but a radius never without
        its norm: it would mean something else in another."""
        if norm is not None:
            ThreatModel.of(norm, "1")  # refuses what is no norm
        if eps is None and self.eps is None:
            raise UserError(f"there is no usual radius for {self.whose}; give one with --eps")
        if eps is None and norm not in (None, self.norm):
            raise UserError(
                f"the radius of {self.whose}, {self.eps}, is for {self.norm}, not for {norm}; give one with --eps"
            )
        return ThreatModel.asked(norm or self.norm, self.eps if eps is None else eps, shape)  # type: ignore[arg-type]


def default_threat(dataset: str, shape: Sequence[int]) -> DefaultThreat:
    """The threat usual on a data set, or on its relative."""
    setups = _setups()
    setup = setups.get(dataset) or setups.get(relative(dataset, shape) or "", {})
    return DefaultThreat(setup.get("norm", "linf"), setup.get("eps"), dataset)


def defense_file(name: str) -> Path:
    return Path(name) if name.endswith(".py") else registry.folder("defenses") / f"{name}.py"


def defense_class(name: str) -> type[Any]:
    """The one class of a defense's file that is a Defense."""
    found_in = registry.module("defenses", name)
    found = [
        value
        for value in vars(found_in).values()
        if inspect.isclass(value) and issubclass(value, Defense) and value.__module__ == found_in.__name__
    ]
    if len(found) != 1:
        raise UserError(f"expected one subclass of Defense in {name}, found {len(found)}")
    return found[0]
