"""Works through a queue: trains and evaluates one open item after the other, until all are done or the time is over."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from robench.benchmarking.progress import QueueProgress, reached, training_in, training_of
from robench.benchmarking.run import Reporter
from robench.benchmarking.workspace import Workspace
from robench.data import datasets
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import GOES_ON
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
from robench.training import interruption, loop
from robench.utils.deadline import Deadline, OutOfTime
from robench.utils.errors import UserError
from robench.utils.text import cleaned

MINIMUM = 60.0
"""With fewer seconds left no further item is started."""

State = Literal["done", "stopped", "failed"]


@dataclass(frozen=True)
class ItemOutcome:
    """What became of an item in this call, with a sentence or its accuracies."""

    item: str
    state: State
    detail: str


@dataclass(frozen=True)
class Report:
    """`before`: the items that were done already; `next`: the first that is open still and did not fail."""

    before: Sequence[str]
    outcomes: Sequence[ItemOutcome]
    next: str | None

    @property
    def failed(self) -> bool:
        return any(outcome.state == "failed" for outcome in self.outcomes)


def run(
    name: str = "reproduce",
    workspace: Workspace | None = None,
    *,
    only: str = "*",
    deadline: Deadline | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Trains and evaluates the open items of a queue in their order, those whose names match `only`.

    At the deadline it stops between two steps of a training, whose state is kept, or before a pass of an evaluation,
    whose finished rows are; the next call goes on there. An item that fails is reported, and the next one's turn comes.
    The leaderboard and the tables are written again when an item has been done.
    """
    items = load(name, only)
    workspace = workspace or Workspace.of()
    check(items, workspace)
    work = _Work(workspace, deadline or Deadline(), reporter)
    before: list[str] = []
    outcomes: list[ItemOutcome] = []
    held = QueueProgress(workspace.results)
    for number, item in enumerate(items, 1):
        if not any(part.missing for part in held.parts(item, workspace.shape(item))):
            before.append(item.name)
        elif outcomes and work.deadline.left < MINIMUM:
            break
        else:
            if reporter:
                reporter.model(number, len(items))
            outcomes.append(work.outcome(item))
            if outcomes[-1].state == "stopped":
                break
    if any(outcome.state == "done" for outcome in outcomes):
        work.say(f"wrote {', '.join(map(str, _publish(name, workspace)))}")
    closed = {*before, *(outcome.item for outcome in outcomes if outcome.state != "stopped")}
    return Report(before, outcomes, next((item.name for item in items if item.name not in closed), None))


def check(items: Sequence[Item], workspace: Workspace) -> None:
    """What is wrong with any item is said before anything is trained."""
    for item in items:
        training_of(item, workspace.shape(item))
        ThreatModel.asked(item.shared.norm, item.shared.eps, workspace.shape(item))
        for asked in item.evaluations.values():
            battery(None, asked.attacks)


@dataclass(frozen=True)
class _Work:
    workspace: Workspace
    deadline: Deadline
    reporter: Reporter | None

    def say(self, text: str) -> None:
        if self.reporter:
            self.reporter.say(text)

    def outcome(self, item: Item) -> ItemOutcome:
        """Of one item, whatever happens to it."""
        self.say(f"{item.name}: started")
        try:
            return ItemOutcome(item.name, "done", "; ".join(self._found(item)))
        except OutOfTime:
            return ItemOutcome(item.name, "stopped", self._reached(item))
        except Exception as error:  # one item's fault must not cost the others
            sentence = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {_first_line(error)}"
            self.say(f"{item.name}: {sentence}")
            return ItemOutcome(item.name, "failed", sentence)

    def _found(self, item: Item) -> Iterator[str]:
        """Trains what is not trained and attacks what is not attacked; the accuracies of each evaluation."""
        plan, path = self.workspace.plan(item)
        if path.is_file():
            loop.finished(plan, path)
        else:
            self.say(f"{item.name}: training for {plan.recipe.setup.epochs} epochs")
            progress = self.reporter.training() if self.reporter else None
            interruption.train(
                plan,
                path,
                device=self.workspace.device,
                resume=True,
                progress=progress,
                deadline=self.deadline,
                goes_on=GOES_ON,
            )
        subject = load_model(path)
        subject.model.register_forward_pre_hook(partial(_before_a_pass, self.deadline))
        for asked in item.evaluations.values():
            self.say(f"{item.name}: attacking {asked.n} images of {item.attacked(asked)}")
            planned = plan_evaluation(
                subject,
                EvaluationOptions(
                    attacks=asked.attacks,
                    dataset=item.attacked(asked),
                    data_root=self.workspace.data_root,
                    download=self.workspace.download,
                    eps=item.shared.eps,
                    norm=item.shared.norm,
                    device=self.workspace.device,
                    n=asked.n,
                ),
            )
            if len(planned.wanted) < asked.n:
                raise UserError(f"expected {asked.n} test images in {item.attacked(asked)}, got {len(planned.wanted)}")
            yield _accuracies(
                run_evaluation(planned, self.workspace.results, self.reporter.evaluation() if self.reporter else None)
            )

    def _reached(self, item: Item) -> str:
        plan, path = self.workspace.plan(item)
        parts = QueueProgress(self.workspace.results).parts(item, plan.split.shape) if path.is_file() else []
        return reached(plan, path, parts)


@decides_nothing
def _before_a_pass(deadline: Deadline, model: nn.Module, inputs: tuple[Tensor]) -> None:
    """A hook of the model: the passes of a library's attack are asked as well, which reports no steps."""
    deadline.check()


def _accuracies(summary: Summary) -> str:
    """Of one evaluation, for people; rows that ended in an error leave the item open, and are its failure."""
    for name, attack in summary.attacks.items():
        if attack.errors:
            raise UserError(f"{name} ended in an error on {attack.errors} of {summary.n} images: {attack.message}")
    assert summary.worst_case is not None
    numbers = f"clean {percent(summary.clean.value)} %, worst case {percent(summary.worst_case.value)} %"
    return f"{numbers} of {summary.n} of {summary.dataset}"


def _publish(name: str, workspace: Workspace) -> list[Path]:
    """The leaderboard, for each evaluation a table of the items done, and the papers' with a defense of the queue."""
    tables: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    items, held = load(name), QueueProgress(workspace.results)
    for item in items:
        shape = workspace.shape(item)
        if any(part.missing for part in held.parts(item, shape)):
            continue
        training = training_of(item, shape)
        threat = ThreatModel.of(item.shared.norm, item.shared.eps)
        for evaluation, asked in item.evaluations.items():
            dataset = datasets.called(item.attacked(asked), "test")
            for attack in (CLEAN, DIAGNOSIS, *(attack.name for attack in battery(None, asked.attacks)[0])):
                tables[evaluation].add((training, dataset, threat.norm, threat.eps, cleaned(attack)))

    def filled_by(cell: Cell) -> list[str]:
        about = cell.about
        row = (training_in(about), about["dataset"], *cell.key["threat"], about["attack"])
        return [f"{Path(name).stem}_{evaluation}" for evaluation, rows in tables.items() if row in rows]

    return publish_queue(filled_by, {item.defense for item in items}, workspace.results)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
