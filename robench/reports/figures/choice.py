"""Which models a figure shows, of all that were evaluated or measured, and the words that say which they are."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from robench.ledger.schema import CLEAN
from robench.reports.captions import Described, schedule, written
from robench.reports.evaluations import Run, settings_of
from robench.reports.figure_data import FigureData
from robench.utils.fingerprints import fingerprint
from robench.utils.stats import Interval

Model = Mapping[str, Any]
"""What a figure's file says of a model it shows: its `defense`, and settings of the recipe."""

D = TypeVar("D", bound=Described)


def places(found: Iterable[D], models: Iterable[Model], first: Sequence[str]) -> dict[str, list[D]]:
    """Those of the models by data set, each training once: the sets named `first`, then the others, newest first."""
    by_set: dict[str, dict[str, D]] = defaultdict(dict)
    models = list(models)
    for each in found:
        if any(_is_of(each, model) for model in models):
            by_set[each.dataset].setdefault(_identity(each), each)
    order = dict.fromkeys([*(name for name in first if name in by_set), *by_set])
    return {name: list(by_set[name].values()) for name in order}


def one_place(found: Iterable[D], models: Iterable[Model], paper: str) -> list[D]:
    """Those of the models on one data set, the paper's or else the newest, within the threat of most of them."""
    on_set = next(iter(places(found, models, [paper]).values()), [])
    return _most(on_set, where)


def lines(found: Sequence[D], models: Mapping[str, Model], over: str | None = None) -> dict[str, list[D]]:
    """Of each model, by its label, the trainings that differ in nothing but the seed and the setting `over`, in the
    order of that.

    Of several such sets it is one of the schedule that most of what is shown has, if there is one, the largest, the
    newest.
    """
    matching = [each for each in found if any(_is_of(each, model) for model in models.values())]
    usual = {_trained(each) for each in _most(matching, _trained)}
    chosen = {}
    for label, model in models.items():
        of_model = [each for each in matching if _is_of(each, model)]
        scheduled = [each for each in of_model if _trained(each) in usual]
        chosen[label] = _most(scheduled or of_model, lambda each: _recipe_without(each, over))
        if over:
            chosen[label].sort(key=lambda each: settings_of(each.about).get(over, 0))
    return chosen


def accuracy(run: Run, column: str) -> Interval | None:
    """Clean or under an attack; None where it was not run."""
    if column == CLEAN:
        return run.summary.clean
    attack = run.summary.attacks.get(column)
    return attack.accuracy if attack else None


def where(found: Described) -> str:
    """Data set and threat."""
    return f"{found.about['dataset']} within {found.about['norm']} {found.about['eps']}"


def caption(sources: FigureData, shown: Mapping[str, Sequence[Described]], *sentences: str) -> str:
    """`written`, from the data set, the threat and the schedules on, and with what is lacking."""
    places = listed(where(each) for some in shown.values() for each in some)
    return written(sources, f"On {places}; {trained(shown)}", *sentences, *lacking(sources, shown))


def trained(shown: Mapping[str, Sequence[Described]]) -> str:
    """The schedule of all, or each schedule with its models, and the seeds."""
    labels: dict[str, list[str]] = defaultdict(list)
    for label, some in shown.items():
        for each in dict.fromkeys(map(_trained, some)):
            labels[each].append(label)
    seeds = sorted({each.about["train_seed"] for some in shown.values() for each in some})
    whose = [f"{each} ({', '.join(some)})" if len(labels) > 1 else each for each, some in labels.items()]
    return "; ".join([*whose, f"training seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"])


def lacking(sources: FigureData, shown: Mapping[str, Sequence[Described]]) -> list[str]:
    labels = listed(label for label, some in shown.items() if not some)
    return [f"Not there yet: {labels}, which robench bench {sources.id} adds"] if labels else []


def listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _trained(found: Described) -> str:
    return f"{found.about['arch']} trained for {schedule(found)}"


def _is_of(found: Described, model: Model) -> bool:
    settings = settings_of(found.about)
    return found.about["defense"] == model["defense"] and all(
        settings.get(name) == value for name, value in model.items() if name != "defense"
    )


def _identity(found: Described) -> str:
    about = found.about
    return fingerprint({name: about[name] for name in ("recipe", "train_seed", "trained_on", "norm", "eps")})


def _most(found: Sequence[D], key: Callable[[D], str]) -> list[D]:
    """Those that share the commonest key, of equals the one that comes first."""
    keys = [key(each) for each in found]
    commonest = [first for first, _ in Counter(keys).most_common(1)]
    return [each for each, its in zip(found, keys, strict=True) if its in commonest]


def _recipe_without(found: Described, name: str | None) -> str:
    recipe = found.about["recipe"]
    settings = {key: value for key, value in recipe["settings"].items() if key != name}
    return fingerprint({**recipe, "settings": settings})
