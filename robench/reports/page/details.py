"""What a model's page says: numbers of its run, and the runs beside it."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from robench.ledger.findings import Course
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.signs import GRADIENT, count
from robench.ledger.summary import AttackSummary, ClassSummary
from robench.reports.evaluations import Run
from robench.utils.fingerprints import fingerprint

CLASSES = 20
"""shown, at most: of more those of the lowest worst case"""


@dataclass(frozen=True)
class Attacked:
    """An attack on a model, and its settings as one writes them."""

    name: str
    found: AttackSummary
    course: Course
    settings: str


@dataclass(frozen=True)
class Made:
    """What made some of the cells: `of` names their attacks, `facts` are for people."""

    command: str
    of: Sequence[str]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class OverSeeds:
    """A recipe trained with several seeds; `means` are its row of `over_seeds`."""

    runs: Sequence[Run]
    means: Mapping[str, Any]


@dataclass(frozen=True)
class Details:
    """`rank`, among `ranks`, is None where the run has none; `series` numbers the attacks for their colours.
    `seeds`: the runs of its recipe there, this one among them, where there are several; `elsewhere`: those of the same
    model on other data or within another threat; `before` and `after` stand above and below it."""

    run: Run
    anchor: str
    rank: int | None
    ranks: int
    series: Mapping[str, int]
    seeds: OverSeeds | None
    elsewhere: Sequence[Run]
    before: Run | None
    after: Run | None

    @cached_property
    def attacks(self) -> list[Attacked]:
        """The cheapest first."""
        return [
            Attacked(name, self.run.summary.attacks[name], course, written(self.run.cells[name].key["attack"]))
            for name, course in self.run.findings.courses.items()
        ]

    @property
    def classes(self) -> list[ClassSummary]:
        """By label; of many those of the lowest worst case, or the lowest that an unknown one may be."""
        known = [(_least(each), each.label, each) for each in self.run.summary.classes if _attacked(each)]
        lowest = known if len(known) <= CLASSES else sorted(known)[:CLASSES]
        return [each for _, _, each in lowest]

    @property
    def diagnosis(self) -> Mapping[str, Any] | None:
        """What was found of the gradients."""
        return self.run.cells[DIAGNOSIS].found if DIAGNOSIS in self.run.cells else None

    @property
    def signs(self) -> Mapping[str, int]:
        """Of each sign that a gradient misleads, on how many of the examples probed it was found."""
        return {sign: count(self.diagnosis or {}, sign) for sign in GRADIENT}

    @property
    def recipe(self) -> dict[str, dict[str, str]]:
        """The settings that trained the model, of the defense and of the training."""
        recipe = self.run.about["recipe"] or {}
        blocks = {"defense": recipe.get("settings") or {}, "training": recipe.get("setup") or {}}
        others = {name: recipe[name] for name in ("limit", "precision", "init") if recipe.get(name) is not None}
        blocks["training"] = {**blocks["training"], **others}
        return {name: {key: _value(value) for key, value in block.items()} for name, block in blocks.items() if block}

    @property
    def made(self) -> list[Made]:
        """The earliest first; cells that one run made are told together."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name, cell in sorted(self.run.cells.items(), key=lambda item: (str(item[1].run["started"]), item[0])):
            groups[fingerprint({key: value for key, value in cell.run.items() if key != "started"})].append(name)
        return [self._made(names) for names in groups.values()]

    def _made(self, names: Sequence[str]) -> Made:
        run = self.run.cells[names[0]].run
        started = sorted({str(self.run.cells[name].run["started"]) for name in names})
        commit = f"{run['commit']}{' with changes' if run.get('dirty') else ''}" if run.get("commit") else None
        facts = {
            "begun": " to ".join(dict.fromkeys([started[0], started[-1]])),
            "commit": commit,
            "device": run.get("device"),
            "versions": ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items()),
            "batch size": run.get("batch_size"),
            "threads": run.get("threads"),
        }
        known = {name: str(value) for name, value in facts.items() if value not in (None, "")}
        return Made(str(run.get("command", "not recorded")), names, known)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of what was evaluated, and the folders of the cells."""
        key = self.run.cells[CLEAN].key
        model = key["model"] if isinstance(key["model"], dict) else {"weights": key["model"]}
        folders = ", ".join(sorted(cell.path.name for cell in self.run.cells.values()))
        found = {**model, "data set": key["dataset"], "engine": key.get("engine"), "ledger": folders}
        return {name: _value(value) for name, value in found.items() if value not in (None, "")}


def written(configured: Any) -> str:
    """An attack's key as one writes a call: pgd(steps=20, restarts=1)."""
    if not isinstance(configured, dict) or "function" not in configured:
        return _value(configured)
    settings = {**configured.get("settings", {}), "restarts": configured.get("restarts", 1)}
    others = {name: configured[name] for name in ("seed", "readings", "draws", "protocol") if name in configured}
    arguments = ", ".join(f"{name}={written(value)}" for name, value in {**settings, **others}.items())
    return f"{configured['function']}({arguments})"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _attacked(of: ClassSummary) -> bool:
    return bool(of.worst_case or of.worst_case_bounds)


def _least(of: ClassSummary) -> float:
    """What its worst case is at least."""
    found = of.worst_case_bounds.least if of.worst_case_bounds else of.worst_case
    assert found is not None
    return found.value
