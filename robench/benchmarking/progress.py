"""How far the items of a queue are: what the ledger holds of their models, and what a training's state says.

The ledger names a model by its recipe and seed, so that an item is known to be done where its checkpoint is gone, and
remains so in later versions of robench. An item whose recipe has changed since is open again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robench.data.datasets import called
from robench.ledger.cell import Cell
from robench.ledger.schema import CLEAN
from robench.ledger.store import Ledger
from robench.models import checkpoint
from robench.search.catalog import battery
from robench.specs.queue import Item
from robench.threat import ThreatModel
from robench.training import recipe
from robench.training.plan import Plan
from robench.training.start import state_of
from robench.utils.errors import UserError
from robench.utils.fingerprints import fingerprint
from robench.utils.text import cleaned


@dataclass(frozen=True)
class CellProgress:
    """One attack on one data set, or `CLEAN`: the examples that an item asks for, and those that are not yet done."""

    dataset: str
    attack: str
    wanted: int
    missing: int


class QueueProgress:
    """What the ledger of a results folder holds of the models that queues train."""

    def __init__(self, results: Path | str) -> None:
        self._of: dict[str, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
        for cell in Ledger(results).readable()[0]:
            if cell.about["recipe"] and cell.about.get("protocol") != "static":
                self._of[training_in(cell.about)][fingerprint(cell.key["model"])].append(cell)

    def parts(self, item: Item, shape: Sequence[int]) -> list[CellProgress]:
        """Of the model of this item that is furthest; `shape` [C, H, W] is that of the images it is trained on."""
        models = [*self._of[training_of(item, shape)].values(), []]
        return min((_parts(item, cells) for cells in models), key=lambda parts: sum(part.missing for part in parts))


def training_of(item: Item, shape: Sequence[int]) -> str:
    """What makes its training what it is, the code aside."""
    resolved = recipe.resolve(item.defense, item.shared.dataset, shape, item.changes).describe()
    described = {**resolved, "limit": item.shared.limit, "precision": item.shared.precision, "init": None}
    return training_in({"recipe": described, "train_seed": item.seed, "trained_on": item.shared.dataset})


def training_in(about: Mapping[str, Any]) -> str:
    """The same, from what a cell says of its model."""
    return fingerprint({name: about[name] for name in ("recipe", "train_seed", "trained_on")})


def _parts(item: Item, cells: Sequence[Cell]) -> list[CellProgress]:
    threat = ThreatModel.of(item.shared.norm, item.shared.eps)
    asked: dict[tuple[str, str], int] = {}
    for asking in item.evaluations.values():
        dataset = item.attacked(asking)
        for name in (CLEAN, *(attack.name for attack in battery(None, asking.attacks)[0])):
            asked[dataset, name] = max(asking.n, asked.get((dataset, name), 0))
    found = []
    for (dataset, name), n in asked.items():
        filled = [
            cell.present()
            for cell in cells
            if (cell.about["attack"], cell.about["dataset"]) == (cleaned(name), called(dataset, "test"))
            and cell.key["threat"] == [threat.norm, threat.eps]
        ]
        missing = min((len(set(range(n)) - present) for present in filled), default=n)
        found.append(CellProgress(dataset, name, n, missing))
    return found


def steps_of(plan: Plan) -> int:
    """How many steps a training takes."""
    setup = plan.recipe.setup
    images = len(plan.split) - setup.holdout
    return setup.epochs * max(min(images, plan.limit or images) // setup.batch_size, 1)


def steps_done(plan: Plan, path: Path) -> int:
    """How many of them are behind the checkpoint `path`, or the state beside it."""
    if path.is_file():
        return steps_of(plan)
    state = state_of(path)
    if not state.is_file():
        return 0
    step = checkpoint.read(state).get("step")
    if not isinstance(step, int):
        raise UserError(f"{state} holds no state of a training; remove it")
    return step


def reached(plan: Plan, path: Path, parts: Sequence[CellProgress]) -> str:
    """Of an item that is not done, for people: open, training at 37 %, evaluation at 60 %."""
    done, steps = steps_done(plan, path), steps_of(plan)
    if done < steps:
        return f"training at {100 * done / steps:.0f} %" if done else "open"
    missing, wanted = sum(part.missing for part in parts), sum(part.wanted for part in parts)
    return f"evaluation at {100 * (wanted - missing) / wanted:.0f} %"
