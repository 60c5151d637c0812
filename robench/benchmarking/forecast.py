"""How long the items of a queue will take on this device: a few steps of each training and a few passes of its network
are timed, the rest is counted."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from robench.benchmarking.progress import CellProgress, QueueProgress, reached, steps_done, steps_of
from robench.benchmarking.queue import check
from robench.benchmarking.workspace import Workspace
from robench.data import datasets
from robench.evaluation.estimate import probe
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.ledger.schema import CLEAN
from robench.models import make
from robench.specs.queue import Item, load
from robench.training import loop
from robench.training.plan import Plan
from robench.training.selection import STEPS as VALIDATION_STEPS
from robench.utils.errors import UserError
from robench.utils.files import scratch

BATCH = 128
"""Examples that an evaluation attacks together."""

Clock = Callable[[], float]

TIMED = 3
"""Steps of a training that are made; the first warms up."""

SMALLEST = 2
"""The batch timed first, which grows eightfold to the training's own as long as `ENOUGH` allows."""

ENOUGH = 2.0
"""Seconds that a timed step may take; larger batches are taken to cost in proportion."""


@dataclass(frozen=True)
class Forecast:
    """Of one item, in seconds. `state`: open, training at 37 %, evaluation at 60 %, done, or what it lacks. `training`:
    what is left of it, at `step` a step; `attacks`: what is left of these, if no example is broken, at `attack_step`
    for a forward and a backward pass of a batch."""

    item: str
    state: str
    step: float | None = None
    training: float = 0.0
    attack_step: float | None = None
    attacks: float = 0.0

    @property
    def total(self) -> float:
        return self.training + self.attacks


def forecast(
    name: str = "reproduce",
    workspace: Workspace | None = None,
    *,
    only: str = "*",
    clock: Clock = time.perf_counter,
    say: Callable[[str], None] = lambda text: None,
) -> list[Forecast]:
    """Of the items of a queue whose names match `only`; writes nothing, and reads done items off the ledger alone."""
    items = load(name, only)
    workspace = workspace or Workspace.of()
    check(items, workspace)
    held, known = QueueProgress(workspace.results), _Passes(workspace)
    found = []
    for item in items:
        say(f"{item.name}: timing")
        found.append(_forecast(item, workspace, held, known, clock))
    return found


def _forecast(item: Item, workspace: Workspace, held: QueueProgress, known: "_Passes", clock: Clock) -> Forecast:
    parts = held.parts(item, workspace.shape(item))
    if not any(part.missing for part in parts):
        return Forecast(item.name, "done")
    try:
        plan, path = workspace.plan(item)
        left = steps_of(plan) - steps_done(plan, path)
        step = step_seconds(plan, workspace.device, clock) if left else None
        attack_step, attacks, validation = known.seconds(item, plan, parts)
    except (UserError, torch.OutOfMemoryError) as error:
        return Forecast(item.name, f"cannot be run: {str(error).splitlines()[0]}")
    training = left * (step or 0.0) + validation * left / steps_of(plan)
    return Forecast(item.name, reached(plan, path, parts), step, training, attack_step, attacks)


class _Passes:
    """What attacks cost a network on a data set; measured once, on an untrained one."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._known: dict[tuple[str, str, tuple[str, ...]], tuple[float, float, dict[str, float]]] = {}

    def seconds(self, item: Item, plan: Plan, parts: Sequence[CellProgress]) -> tuple[float, float, float]:
        """Of a forward and a backward pass of a batch, of the attacks still to be made, and of all the epochs' looks at
        the images held out. Other data sets than that trained on are taken to cost the same."""
        for dataset in {part.dataset for part in parts} - {item.shared.dataset}:
            self._require(dataset)
        forward, backward, each = self._of(item, plan, tuple(dict.fromkeys(part.attack for part in parts)))
        setup = plan.recipe.setup
        looks = setup.epochs * setup.holdout * ((VALIDATION_STEPS + 2) * forward + VALIDATION_STEPS * backward)
        return BATCH * (forward + backward), sum(part.missing * each[part.attack] for part in parts), looks

    def _require(self, dataset: str) -> None:
        """Raises UserError where the data set is missing."""
        datasets.load(dataset, "test", root=self.workspace.data_root, download=self.workspace.download, stream=True)

    def _of(self, item: Item, plan: Plan, attacks: tuple[str, ...]) -> tuple[float, float, dict[str, float]]:
        """Seconds of a forward and of a backward pass of an image, and of each attack on one."""
        arch, dataset = plan.recipe.setup.arch, item.shared.dataset
        if (arch, dataset, attacks) not in self._known:
            planned = plan_evaluation(
                make(arch, plan.split.shape, plan.split.classes),
                EvaluationOptions(
                    attacks=[name for name in attacks if name != CLEAN],
                    dataset=dataset,
                    data_root=self.workspace.data_root,
                    download=self.workspace.download,
                    eps=item.shared.eps,
                    norm=item.shared.norm,
                    device=self.workspace.device,
                    batch_size=BATCH,
                ),
            )
            forward, backward = probe(planned)
            passes = {attack.name: planned.passes(attack) for attack in planned.attacks} | {CLEAN: (1, 0)}
            each = {name: forwards * forward + backwards * backward for name, (forwards, backwards) in passes.items()}
            self._known[arch, dataset, attacks] = forward, backward, each
        return self._known[arch, dataset, attacks]


def step_seconds(plan: Plan, device: str, clock: Clock = time.perf_counter) -> float:
    """Of one step of a training, as it would be after the first."""
    full = plan.recipe.setup.batch_size
    size = min(SMALLEST, full)
    while True:
        seconds = _timed(_small(plan, size), device, clock)
        if size == full or 8 * seconds > ENOUGH:
            return seconds * full / size
        size = min(8 * size, full)


def _small(plan: Plan, size: int) -> Plan:
    """The training cut to a few batches of `size` images from all over the set."""
    setup = plan.recipe.setup.model_copy(update={"batch_size": size, "holdout": 0, "epochs": TIMED})
    few = plan.split.take(slice(None, None, max(len(plan.split) // (TIMED * size), 1)))
    return replace(plan, recipe=replace(plan.recipe, setup=setup), split=few, limit=None)


class _EnoughSteps(Exception):  # noqa: N818
    """All the steps wanted are timed."""


class _Timer(loop.SilentTraining):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.moments: list[float] = []

    def advance(self, step: int, loss: float, passes: int) -> None:
        self.moments.append(self.clock())
        if len(self.moments) == TIMED:
            raise _EnoughSteps


def _timed(plan: Plan, device: str, clock: Clock) -> float:
    timer = _Timer(clock)
    with scratch() as folder, suppress(_EnoughSteps):
        loop.train(plan, folder / "timed.pt", device=device, progress=timer)
    return min(later - earlier for earlier, later in pairwise(timer.moments))
