"""The evaluations in the ledger, each a model against everything that attacked it on one data set within one threat."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from robench.ledger.cell import Cell
from robench.ledger.findings import Findings
from robench.ledger.index import Index
from robench.ledger.per_example import Tally, shared, whole
from robench.ledger.radius import radius
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.store import Ledger, newest
from robench.ledger.summary import Summary
from robench.utils.errors import UserError
from robench.utils.fingerprints import fingerprint

Finder = Callable[[Mapping[str, Cell], Callable[[], Mapping[str, Tally]]], Findings]
"""What gives the findings of cells and their rows."""


class LedgerWarning(UserWarning):
    """A part of the ledger cannot be read."""


@dataclass(frozen=True)
class Run:
    """`cells` by the name of their attack, `CLEAN` among them. `superseded`: attacked runs of other weights of the same
    recipe and seed, earlier ones, in whose place it is shown."""

    cells: Mapping[str, Cell]
    superseded: Sequence["Run"] = ()
    finder: Finder = Findings.of
    """an index's, which may have them already"""
    keeps_rows: bool = True
    """what read its rows leaves them here"""

    @property
    def about(self) -> Mapping[str, Any]:
        """Names for people: model, arch, defense, recipe (settings and setup), train_seed, trained_on, dataset, norm,
        eps, classes."""
        return self.cells[CLEAN].about

    @property
    def dataset(self) -> str:
        """The set's name without its part: "digits", not "digits (test)"."""
        return str(self.about["dataset"]).partition(" (")[0]

    @property
    def task(self) -> str:
        """What was learned and where it is tested: "cifar10-4000" with so many labels, "svhn to mnist" by adaptation,
        else the data set."""
        setup = (self.about["recipe"] or {}).get("setup", {})
        if source := (self.about["recipe"] or {}).get("source"):
            return f"{source} to {setup['target_domain']}"
        return f"{self.dataset}-{setup['labels']}" if "labels" in setup else self.dataset

    @property
    def eps(self) -> float:
        """The radius it was attacked within."""
        return float(self.cells[CLEAN].key["threat"][1])

    @property
    def threat(self) -> str:
        """The norm and the radius, however that was written."""
        return self.cells[CLEAN].threat

    @cached_property
    def battery(self) -> Mapping[str, str]:
        """Its attacks by name, those of a transfer from any source as one, each with what makes it what it is."""
        return {
            name.partition(" from ")[0]: fingerprint(_configured(cell.key["attack"]))
            for name, cell in self.cells.items()
            if name not in (CLEAN, DIAGNOSIS)
        }

    @cached_property
    def recipe_id(self) -> str:
        """What it shares with the other seeds of its recipe; without a recipe its own."""
        about = self.about
        return fingerprint({"recipe": about["recipe"], "on": about["trained_on"]}) if about["recipe"] else self.id

    @property
    def supersedes(self) -> str:
        """In words, which earlier trainings it is shown in the place of; empty where there are none."""
        days = sorted(run.started.partition("T")[0] for run in self.superseded)
        if not days:
            return ""
        when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        number = "an earlier training" if len(days) == 1 else f"{len(days)} earlier trainings"
        return f"supersedes {number} of the same recipe and seed, attacked {when}"

    @property
    def attacked(self) -> bool:
        return any(name not in (CLEAN, DIAGNOSIS) for name in self.cells)

    @cached_property
    def id(self) -> str:
        return evaluation_id(self.cells[CLEAN].key)

    @property
    def evaluated(self) -> str:
        """For people, what was evaluated: a model on a data set within a threat."""
        return self.cells[CLEAN].evaluated

    @property
    def started(self) -> str:
        return str(self.cells[CLEAN].run["started"])

    @cached_property
    def whole(self) -> Mapping[str, Tally]:
        """Of the clean images and of each attack, over all the examples that it was run on."""
        return whole(self.cells)

    @cached_property
    def tallies(self) -> Mapping[str, Tally]:
        """The same over the examples that all of them have."""
        return shared(self.whole)

    @cached_property
    def findings(self) -> Findings:
        """What its rows say."""
        return self.finder(self.cells, lambda: self.whole if self.keeps_rows else whole(self.cells))

    @property
    def summary(self) -> Summary:
        return self.findings.summary

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Of the recipe that trained the model, the training's and the defense's; none where there is none."""
        return settings_of(self.about)

    def setting(self, name: str) -> Any:
        """One of the settings; None where it has none of this name."""
        return self.settings.get(name)


def settings_of(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the recipe in what a run or a measurement says of itself, with what else may change from training to
    training: images, precision, the set adapted from, whether it began from given weights."""
    recipe = about["recipe"] or {}
    more = {name: recipe[name] for name in ("limit", "precision", "source") if recipe.get(name)}
    more |= {"init": "given"} if recipe.get("init") else {}
    return {**recipe.get("setup", {}), **recipe.get("settings", {}), **more, "trained_on": about["trained_on"]}


def evaluation_id(key: Mapping[str, Any]) -> str:
    """The fingerprint of a model on a data set within a threat, from the key of a cell or a measurement."""
    return fingerprint({"model": key["model"], "dataset": key["dataset"], "threat": _threat(key)})


def _threat(key: Mapping[str, Any]) -> list[str]:
    """The same for the same radius, to whatever digit it was written."""
    norm, eps = key["threat"]
    return [norm, radius(eps)]


@dataclass(frozen=True)
class Reading:
    """What was read of a ledger: its `cells` and `runs`, and for each part of it that cannot be read a sentence that
    says what to remove, and what counts still."""

    cells: Sequence[Cell]
    runs: Sequence[Run]
    broken: Sequence[str]

    @classmethod
    def of(
        cls, results: Path | str, only: Callable[[Cell], bool] = lambda cell: True, *, keeps_rows: bool = False
    ) -> "Reading":
        """Everything in the ledger, or of the cells that `only` chooses; with their rows, where many are needed."""
        index = Index(Ledger(results))
        whole, broken = index.readable()
        chosen = [cell for cell in whole if only(cell)]
        found = countable(runs_of(chosen, index.findings, keeps_rows=keeps_rows), broken)
        index.save()
        return cls(chosen, found, [*broken, *(_bereft(chosen) if broken else ())])


def runs(results: Path | str = "results", only: Callable[[Cell], bool] = lambda cell: True) -> list[Run]:
    """The runs of the cells that `only` chooses; what cannot be read is left out, with a `LedgerWarning`."""
    reading = Reading.of(results, only, keeps_rows=True)
    leave_out(reading.broken)
    return list(reading.runs)


def nothing_readable(results: Path | str, broken: Sequence[str]) -> UserError:
    """The error for a ledger of which nothing can be shown."""
    return UserError(f"nothing in {results} can be ranked, as it cannot be read: {'; '.join(broken)}")


def countable(found: Iterable[Run], broken: list[str]) -> list[Run]:
    """The runs, less the attacks whose rows cannot be read, and those whose clean predictions cannot; `broken` is told
    of them."""
    kept = []
    for run in found:
        try:
            assert run.findings
            kept.append(run)
        except UserError as error:
            attacks = [name for name in run.cells if name not in (CLEAN, DIAGNOSIS)]
            unread = {name: why for name, cell in run.cells.items() if (why := _unreadable(cell))}
            counted = [name for name in attacks if name not in unread]
            if CLEAN in unread or not unread:
                lost = f", nor {', '.join(counted)} on it" if counted else ""
                broken.append(f"{run.evaluated} cannot be shown{lost}: {error}")
            else:
                still = f"; {', '.join(counted)} still {'count' if len(counted) > 1 else 'counts'}" if counted else ""
                broken += [f"{name} on {run.evaluated} is not counted: {why}{still}" for name, why in unread.items()]
                rest = {name: cell for name, cell in run.cells.items() if name not in unread}
                kept += countable([replace(run, cells=rest)], broken)
    return kept


def _unreadable(cell: Cell) -> str:
    """Why a cell cannot be read; empty where it can."""
    try:
        cell.check()
        cell.table()
    except UserError as error:
        return str(error)
    return ""


def _bereft(cells: Iterable[Cell]) -> list[str]:
    """Attacks that cannot be counted, since what the model says of the clean images is not among these cells."""
    groups: dict[str, dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        groups[evaluation_id(cell.key)][cell.about["attack"]] = cell
    return [
        f"{', '.join(sorted(group))} on {next(iter(group.values())).evaluated} cannot be counted without its clean "
        "predictions, which the same command makes again"
        for group in groups.values()
        if CLEAN not in group
    ]


def leave_out(broken: Iterable[str]) -> None:
    """Says what is wrong with the parts of the ledger that cannot be read."""
    for sentence in broken:
        warnings.warn(f"left out: {sentence}", LedgerWarning, stacklevel=3)


def runs_of(cells: Iterable[Cell], finder: Finder = Findings.of, *, keeps_rows: bool = True) -> list[Run]:
    """Newest first. A model is given once on a data set and threat: of several trainings of one recipe, architecture
    and seed the newest that was attacked, which says that it supersedes the others; and of two runs of one attack on it
    the wider, then the newer."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in newest(cells):
        groups[evaluation_id(cell.key)].append(cell)
    trainings: dict[str, list[Run]] = defaultdict(list)
    for group in groups.values():  # newest first
        chosen = _chosen(_as_deployed(group))
        if CLEAN in chosen:
            trainings[_identity(chosen[CLEAN])].append(Run(chosen, finder=finder, keeps_rows=keeps_rows))
    return sorted(map(_newest_attacked, trainings.values()), key=lambda run: run.started, reverse=True)


def _newest_attacked(trainings: Sequence[Run]) -> Run:
    """Of trainings of one recipe and seed, newest first."""
    attacked = [run for run in trainings if run.attacked]
    return replace(attacked[0], superseded=attacked[1:]) if attacked else trainings[0]


def distinctions(evaluated: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each run, the settings in which it differs from another of its defense on the same data set and threat; of
    those that would still look alike, the beginnings of the hashes in which they differ, of weights or code."""
    kin: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for run in evaluated:
        kin[_kin(run)].append(run.settings)
    varied = {name: _varied(settings) for name, settings in kin.items()}
    found = [{name: run.settings[name] for name in run.settings if name in varied[_kin(run)]} for run in evaluated]
    alike: dict[str, list[int]] = defaultdict(list)
    for place, run in enumerate(evaluated):
        alike[fingerprint({"run": [run.about["model"], *_kin(run)], "settings": found[place]})].append(place)
    for places in alike.values():
        for part, word in _HASHES.items():
            hashes = [_model_key(evaluated[place]).get(part, "") for place in places]
            for place, told in zip(places, hashes, strict=True):
                found[place] |= {word: told[:4]} if told and len({*hashes}) > 1 else {}
    return found


def _varied(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names under which these differ, or that some lack."""
    first = settings[0]
    return {name for each in settings for name in {*each, *first} if each.get(name) != first.get(name)}


_HASHES = {"weights": "weights", "source": "code", "alone": "run"}
"""The parts of a model's key, as they are called for people; `alone` names the only run of what cannot be described."""


def _model_key(run: Run) -> Mapping[str, str]:
    key = run.cells[CLEAN].key["model"]
    return key if isinstance(key, Mapping) else {"weights": str(key)}


def _kin(run: Run) -> tuple[str, ...]:
    return tuple(str(run.about[name]) for name in ("defense", "dataset", "norm", "eps"))


def _as_deployed(cells: Sequence[Cell]) -> list[Cell]:
    """Without those attacked by the static protocol, where there are others."""
    adaptive = [cell for cell in cells if cell.about.get("protocol") != "static"]
    attacked = any(cell.about["attack"] not in (CLEAN, DIAGNOSIS) for cell in adaptive)
    return adaptive if attacked else list(cells)


def _chosen(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Of the cells of one model, newest first: for each attack the one of most examples, the newest of equals.

    Cells without rows are left out, and those that would cut the row to less than a tenth of its examples.
    """
    sizes = {cell.path: cell.size() for cell in cells}
    widest = max((sizes[cell.path] for cell in cells if cell.about["attack"] != CLEAN), default=0)
    chosen: dict[str, Cell] = {}
    for cell in cells:
        if cell.about["attack"] == DIAGNOSIS and cell.found:
            chosen.setdefault(DIAGNOSIS, cell)
        size, name = sizes[cell.path], cell.about["attack"]
        if size > 0 and size * 10 >= widest and (name not in chosen or size > sizes[chosen[name].path]):
            chosen[name] = cell
    return chosen


def _identity(cell: Cell) -> str:
    """What is shown once on a data set and threat: a recipe as it was run with its seed, or else a model."""
    about, key = cell.about, cell.key
    trained = {name: about[name] for name in ("recipe", "train_seed", "trained_on")}
    what = trained if about["recipe"] else {"model": key["model"]}
    return fingerprint({**what, "dataset": key["dataset"], "threat": _threat(key)})


def _configured(attack: Any) -> dict[str, Any]:
    """Of an attack's key what its user chose, its code, seed and batches aside; of the attacks it drives likewise."""
    if not isinstance(attack, dict):
        return {"function": attack}
    settings = {
        name: _configured(value) if isinstance(value, dict) else value
        for name, value in attack.get("settings", {}).items()
    }
    chosen = {name: attack.get(name) for name in ("function", "restarts", "protocol")}
    return {**chosen, "settings": settings}
