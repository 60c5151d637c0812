"""Works through a queue: trains and evaluates one open item after the other, until all are done or the time is over."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from robench.benchmarking.progress import Held, reached, training_in, training_of
from robench.benchmarking.run import Reporter
from robench.data import datasets
from robench.data.datasets import Split
from robench.evaluation.plan import checkpoint_path, plan_evaluation, resolve_device
from robench.evaluation.run import run as run_evaluation
from robench.evaluation.target import load_model
from robench.ledger.cell import Cell
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.summary import Summary
from robench.models.description.networks import decides_nothing
from robench.reports.publishing import publish_queue
from robench.reports.ranking import percent
from robench.search.catalog import battery
from robench.specs.queue import Item, load
from robench.threat import ThreatModel
from robench.training import loop, recipe
from robench.training.training_plan import Plan
from robench.utils.deadline import Deadline, OutOfTime
from robench.utils.errors import UserError

MINIMUM = 60.0
"""With fewer seconds left no further item is begun."""

State = Literal["done", "stopped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of an item in this call, with a sentence or its accuracies."""

    item: str
    state: State
    detail: str


@dataclass(frozen=True)
class Report:
    """`before`: the items that were done already; `next`: the first that is open still and did not fail."""

    before: Sequence[str]
    outcomes: Sequence[Outcome]
    next: str | None

    @property
    def failed(self) -> bool:
        return any(outcome.state == "failed" for outcome in self.outcomes)


@dataclass(frozen=True)
class Place:
    """Where the data lie and results go, and the device; training images are read once."""

    results: Path | str = "results"
    data_root: Path | str = "data"
    download: bool = False
    device: str = "cpu"
    splits: dict[str, Split] = field(default_factory=dict)

    def training_images(self, dataset: str) -> Split:
        if dataset not in self.splits:
            self.splits[dataset] = datasets.load(dataset, "train", root=self.data_root, download=self.download)
        return self.splits[dataset]

    def shape(self, item: Item) -> Sequence[int]:
        """Of the images that it is trained on; empty where they are missing: then its recipe is that for their name."""
        try:
            return self.training_images(item.shared.dataset).shape
        except UserError:
            return ()

    def plan(self, item: Item) -> tuple[Plan, Path]:
        """Its training, and where its checkpoint lies."""
        shared = item.shared
        split = self.training_images(shared.dataset)
        resolved = recipe.resolve(item.defense, shared.dataset, split.shape, item.changes)
        plan = Plan(resolved, shared.dataset, split, shared.limit, item.seed, shared.precision)
        return plan, checkpoint_path(plan, self.results)


def run(
    name: str = "reproduce",
    *,
    only: str = "*",
    results: Path | str = "results",
    data_root: Path | str = "data",
    download: bool = False,
    device: str | None = None,
    deadline: Deadline | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Trains and evaluates the open items of a queue in their order, those whose names match `only`.

    At the deadline it stops between two steps of a training, whose state is kept, or before a pass of an evaluation,
    whose finished rows are; the next call goes on there. An item that fails is reported, and the next one's turn comes.
    The leaderboard and the tables are written again when an item has been done.
    """
    items = load(name, only)
    place = Place(results, data_root, download, resolve_device(device))
    check(items, place)
    work = _Work(place, deadline or Deadline(), reporter)
    before: list[str] = []
    outcomes: list[Outcome] = []
    held = Held(results)
    for item in items:
        if not any(part.missing for part in held.parts(item, place.shape(item))):
            before.append(item.name)
        elif outcomes and work.deadline.left < MINIMUM:
            break
        else:
            outcomes.append(work.outcome(item))
            if outcomes[-1].state == "stopped":
                break
    if any(outcome.state == "done" for outcome in outcomes):
        work.say(f"wrote {', '.join(map(str, _publish(name, place)))}")
    closed = {*before, *(outcome.item for outcome in outcomes if outcome.state != "stopped")}
    return Report(before, outcomes, next((item.name for item in items if item.name not in closed), None))


def check(items: Sequence[Item], place: Place) -> None:
    """What is wrong with any item is said before anything is trained."""
    for item in items:
        training_of(item, place.shape(item))
        ThreatModel.asked(item.shared.norm, item.shared.eps, place.shape(item))
        for asked in item.evaluations.values():
            battery(None, asked.attacks)


@dataclass(frozen=True)
class _Work:
    place: Place
    deadline: Deadline
    reporter: Reporter | None

    def say(self, text: str) -> None:
        if self.reporter:
            self.reporter.say(text)

    def outcome(self, item: Item) -> Outcome:
        """Of one item, whatever happens to it."""
        self.say(f"{item.name}: begun")
        try:
            return Outcome(item.name, "done", "; ".join(self._found(item)))
        except OutOfTime:
            return Outcome(item.name, "stopped", self._reached(item))
        except Exception as error:  # the queue is for when nobody watches: one item's fault must not cost the others
            sentence = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {_first_line(error)}"
            self.say(f"{item.name}: {sentence}")
            return Outcome(item.name, "failed", sentence)

    def _found(self, item: Item) -> Iterator[str]:
        """Trains what is not trained and attacks what is not attacked; the accuracies of each evaluation."""
        plan, path = self.place.plan(item)
        if path.is_file():
            loop.finished(plan, path)
        else:
            self.say(f"{item.name}: training for {plan.recipe.setup.epochs} epochs")
            progress = self.reporter.training() if self.reporter else None
            loop.train(plan, path, device=self.place.device, resume=True, progress=progress, deadline=self.deadline)
        subject = load_model(path)
        subject.model.register_forward_pre_hook(partial(_before_a_pass, self.deadline))
        for asked in item.evaluations.values():
            self.say(f"{item.name}: attacking {asked.n} images of {item.attacked(asked)}")
            planned = plan_evaluation(
                subject,
                attacks=asked.attacks,
                dataset=item.attacked(asked),
                data_root=self.place.data_root,
                download=self.place.download,
                eps=item.shared.eps,
                norm=item.shared.norm,
                device=self.place.device,
                n=asked.n,
            )
            if len(planned.wanted) < asked.n:
                raise UserError(f"expected {asked.n} test images in {item.attacked(asked)}, got {len(planned.wanted)}")
            yield _accuracies(
                run_evaluation(planned, self.place.results, self.reporter.evaluation() if self.reporter else None)
            )

    def _reached(self, item: Item) -> str:
        plan, path = self.place.plan(item)
        parts = Held(self.place.results).parts(item, plan.split.shape) if path.is_file() else []
        return reached(plan, path, parts)


@decides_nothing
def _before_a_pass(deadline: Deadline, model: nn.Module, inputs: tuple[Tensor]) -> None:
    """A hook of the model: the passes of a library's attack are asked as well, which tells nobody of its steps."""
    deadline.check()


def _accuracies(summary: Summary) -> str:
    """Of one evaluation, for people; rows that ended in an error leave the item open, and are its failure."""
    for name, attack in summary.attacks.items():
        if attack.errors:
            raise UserError(f"{name} ended in an error on {attack.errors} of {summary.n} images: {attack.message}")
    assert summary.worst_case is not None
    numbers = f"clean {percent(summary.clean.value)} %, worst case {percent(summary.worst_case.value)} %"
    return f"{numbers} of {summary.n} of {summary.dataset}"


def _publish(name: str, place: Place) -> list[Path]:
    """The leaderboard, for each evaluation a table of the items done, and the papers' with a defense of the queue."""
    tables: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    items, held = load(name), Held(place.results)
    for item in items:
        shape = place.shape(item)
        if any(part.missing for part in held.parts(item, shape)):
            continue
        training = training_of(item, shape)
        threat = ThreatModel.of(item.shared.norm, item.shared.eps)
        for evaluation, asked in item.evaluations.items():
            dataset = datasets.called(item.attacked(asked), "test")
            for attack in (CLEAN, DIAGNOSIS, *(attack.name for attack in battery(None, asked.attacks)[0])):
                tables[evaluation].add((training, dataset, threat.norm, threat.eps, attack))

    def filled_by(cell: Cell) -> list[str]:
        about = cell.about
        row = (training_in(about), about["dataset"], *cell.key["threat"], about["attack"])
        return [f"{Path(name).stem}_{evaluation}" for evaluation, rows in tables.items() if row in rows]

    return publish_queue(filled_by, {item.defense for item in items}, place.results)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
