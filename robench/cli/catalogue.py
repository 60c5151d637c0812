"""What robench knows by name, for people: the lists and descriptions of `robench list` and `robench show`."""

import inspect
from collections.abc import Callable
from pathlib import Path

import yaml

from robench.specs import benchmark
from robench.utils import registry
from robench.utils.errors import unknown


def listing(kind: str) -> list[tuple[str, str]]:
    """Names with a line about each; `kind` in the plural."""
    listings: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "attacks": _attacks,
        "defenses": _defenses,
        "suites": lambda: [(name, ", ".join(registry.read_yaml(_suite(name))["attacks"])) for name in _suites()],
        "datasets": _datasets,
        "models": _models,
        "benchmarks": lambda: [(name, _comment(_benchmark(name))) for name in registry.names("benchmarks", "*.yaml")],
        "tables": lambda: _exhibits(benchmark.Table),
        "figures": lambda: _exhibits(benchmark.Figure),
    }
    return listings[kind]()


def describe(kind: str, name: str) -> str:
    """Everything about one thing. `kind` in the singular."""
    if kind == "attack":
        registry.attack_entry(name)
        from robench.search.catalog import attack

        configured = attack(name)
        settings = {name: getattr(value, "name", value) for name, value in configured.settings.items()}
        settings |= {"restarts": configured.restarts, "sees": configured.access}
        return f"{inspect.getdoc(configured.function)}\n\n{_block(settings)}"
    known = [known for known, _ in listing(f"{kind}s")]
    if name not in known:
        raise unknown(kind, name, known)
    if kind == "defense":
        from robench.training.recipe import defense_class

        if name in registry.bare_defenses():
            return inspect.getdoc(defense_class(name)) or ""
        doc = inspect.getdoc(defense_class(registry.recipe(name)["defense"]))
        return f"{doc}\n\n{_recipe(name).read_text()}".rstrip()
    if kind == "model":
        from robench.models import ARCHITECTURES, libraries

        return inspect.getdoc(ARCHITECTURES[name]) or "" if name in ARCHITECTURES else libraries.about(name)
    if kind == "dataset":
        return dict(listing("datasets"))[name]
    if kind in ("table", "figure"):
        return (registry.folder("benchmarks") / "papers" / f"{name}.yaml").read_text().rstrip()
    return (_suite(name) if kind == "suite" else _benchmark(name)).read_text().rstrip()


def _attacks() -> list[tuple[str, str]]:
    return [(name, _block(entry).replace("\n", ", ")) for name, entry in registry.attack_catalog().items()]


def _defenses() -> list[tuple[str, str]]:
    bare = [(name, "no recipe; trained as each data set usually is") for name in registry.bare_defenses()]
    return sorted([*((name, registry.recipe(name)["paper"]) for name in registry.recipes()), *bare])


def _datasets() -> list[tuple[str, str]]:
    from robench.data.catalog import DATASETS, FORMS

    return [*((name, dataset.about) for name, dataset in DATASETS.items()), *FORMS.items()]


def _models() -> list[tuple[str, str]]:
    from robench.models import ARCHITECTURES
    from robench.models.libraries import LIBRARIES

    networks = [(name, (inspect.getdoc(kind) or "").splitlines()[0]) for name, kind in ARCHITECTURES.items()]
    return [*networks, *((f"{word}:NAME", library.about) for word, library in LIBRARIES.items())]


def _exhibits(kind: type[benchmark.Table] | type[benchmark.Figure]) -> list[tuple[str, str]]:
    found = ((name, benchmark.load(name)) for name in benchmark.exhibits(kind))
    return [(name, f"{exhibit.title} ({exhibit.paper})") for name, exhibit in found if isinstance(exhibit, kind)]


def _recipe(name: str) -> Path:
    return registry.folder("defenses") / "recipes" / f"{name}.yaml"


def _suites() -> list[str]:
    return registry.names("benchmarks", "suites/*.yaml")


def _suite(name: str) -> Path:
    return registry.folder("benchmarks") / "suites" / f"{name}.yaml"


def _benchmark(name: str) -> Path:
    return registry.folder("benchmarks") / f"{name}.yaml"


def _comment(path: Path) -> str:
    first = path.read_text().splitlines()[0]
    return first.removeprefix("# ") if first.startswith("#") else ""


def _block(values: dict[str, object]) -> str:
    return yaml.safe_dump(values, sort_keys=False).strip()
