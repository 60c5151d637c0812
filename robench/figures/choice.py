"""Which models a figure shows, of all that were evaluated or measured, and the words that say which they are."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from robench.drawing import Sources
from robench.fingerprints import fingerprint
from robench.ledger import CLEAN
from robench.runs import Run, dataset, setting
from robench.stats import Interval

Model = Mapping[str, Any]
"""What a figure's file says of a model it shows: its `defense`, and settings of the recipe."""


class Found(Protocol):
    """An evaluation or a measurement of a model."""

    @property
    def about(self) -> Mapping[str, Any]: ...


F = TypeVar("F", bound=Found)


def places(found: Iterable[F], models: Iterable[Model], first: Sequence[str]) -> dict[str, list[F]]:
    """Those of the models by data set, each training once: the sets named `first`, then the others, newest first."""
    by_set: dict[str, dict[str, F]] = defaultdict(dict)
    models = list(models)
    for each in found:
        if any(_is_of(each, model) for model in models):
            by_set[dataset(each.about)].setdefault(_identity(each), each)
    order = dict.fromkeys([*(name for name in first if name in by_set), *by_set])
    return {name: list(by_set[name].values()) for name in order}


def one_place(found: Iterable[F], models: Iterable[Model], paper: str) -> list[F]:
    """Those of the models on one data set, the paper's or else the newest, within the threat of most of them."""
    on_set = next(iter(places(found, models, [paper]).values()), [])
    return _most(on_set, threat)


def lines(found: Sequence[F], models: Mapping[str, Model], over: str | None = None) -> dict[str, list[F]]:
    """Of each model, by its label, the trainings that differ in nothing but the seed and the setting `over`, in the
    order of that.

    Of several such sets it is one of the schedule that most of what is shown has, if there is one, the largest, the
    newest.
    """
    matching = [each for each in found if any(_is_of(each, model) for model in models.values())]
    usual = {schedule(each) for each in _most(matching, schedule)}
    chosen = {}
    for label, model in models.items():
        of_model = [each for each in matching if _is_of(each, model)]
        scheduled = [each for each in of_model if schedule(each) in usual]
        chosen[label] = _most(scheduled or of_model, lambda each: _recipe_without(each, over))
        if over:
            chosen[label].sort(key=lambda each: setting(each.about, over))
    return chosen


def accuracy(run: Run, column: str) -> Interval | None:
    """Clean or under an attack; None where it was not run."""
    if column == CLEAN:
        return run.summary.clean
    attack = run.summary.attacks.get(column)
    return attack.accuracy if attack else None


def threat(found: Found) -> str:
    return f"{found.about['norm']} {found.about['eps']}"


def schedule(found: Found) -> str:
    """The network and how long it was trained."""
    epochs, limit = setting(found.about, "epochs"), found.about["recipe"]["limit"]
    images = f"{limit:,} training images" if limit else "all training images"
    return f"{found.about['arch']}, {epochs} epoch{'s' if epochs > 1 else ''} on {images}"


def caption(sources: Sources, shown: Mapping[str, Sequence[Found]], *said: str) -> str:
    """`sentence` with the data set and threat, and how the models were trained."""
    figure = sources.figure
    where = listed(f"{each.about['dataset']} within {threat(each)}" for some in shown.values() for each in some)
    paper = f"{figure.dataset} within {figure.norm} {figure.eps}"
    return sentence(sources, shown, f"{where} (the paper's: {paper})", trained(shown), *said)


def trained(shown: Mapping[str, Sequence[Found]]) -> str:
    """The schedule of all, or each schedule with its models, and the seeds."""
    labels: dict[str, list[str]] = defaultdict(list)
    for label, some in shown.items():
        for each in dict.fromkeys(map(schedule, some)):
            labels[each].append(label)
    seeds = sorted({each.about["train_seed"] for some in shown.values() for each in some})
    whose = [f"{each} ({', '.join(some)})" if len(labels) > 1 else each for each, some in labels.items()]
    return "; ".join([*whose, f"training seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"])


def sentence(sources: Sources, shown: Mapping[str, Sequence[Found]], *said: str) -> str:
    """Title, what is said, the note of the figure's file, and what is lacking."""
    figure = sources.figure
    lacking = listed(label for label, some in shown.items() if not some)
    parts = [*said, *_note(sources)]
    parts += [f"not there yet: {lacking}, which robench bench {sources.id} adds"] if lacking else []
    return f"{figure.title} ({figure.paper}): {'; '.join(parts)}."


def nothing_yet(sources: Sources) -> str:
    figure = sources.figure
    parts = [f"{figure.title} ({figure.paper}): nothing to draw yet", *_note(sources)]
    cut = ", and with --dataset digits needs no data" if figure.trained else ""
    return f"{'; '.join(parts)}. robench bench {sources.id} fills it{cut}."


def listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _note(sources: Sources) -> list[str]:
    return [sources.settings["note"]] if "note" in sources.settings else []


def _is_of(found: Found, model: Model) -> bool:
    return found.about["defense"] == model["defense"] and all(
        setting(found.about, name) == value for name, value in model.items() if name != "defense"
    )


def _identity(found: Found) -> str:
    about = found.about
    return fingerprint({name: about[name] for name in ("recipe", "train_seed", "trained_on", "norm", "eps")})


def _most(found: Sequence[F], key: Callable[[F], str]) -> list[F]:
    """Those that share the commonest key, of equals the one that comes first."""
    keys = [key(each) for each in found]
    commonest = [first for first, _ in Counter(keys).most_common(1)]
    return [each for each, its in zip(found, keys, strict=True) if its in commonest]


def _recipe_without(found: Found, name: str | None) -> str:
    recipe = found.about["recipe"]
    settings = {key: value for key, value in recipe["settings"].items() if key != name}
    return fingerprint({**recipe, "settings": settings})
