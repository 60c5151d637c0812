"""How long an epoch of a model's training takes."""

import time
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import torch

from robench.evaluation.evaluation import Evaluation
from robench.training import loop
from robench.training.plan import plan_training
from robench.utils.errors import UserError
from robench.utils.files import scratch

OF_MACHINE = True


def measure(evaluation: Evaluation, *, steps: int = 8) -> dict[str, Any]:
    """Seconds of an epoch over the whole training set, less the images held out: the median step of a training started
    anew by the model's own recipe, of `steps` of them after two to warm up, times the steps of an epoch.

    `quartiles` are those of a step's seconds on the epoch's scale; `passes` the forward passes of an image in a step.
    Neither validation nor checkpoints are counted. On a machine with other work it is the time beside that work.
    """
    card = evaluation.subject.card
    if card is None:
        raise UserError(f"expected a checkpoint that robench trained, got {evaluation.subject.name}, without a recipe")
    setup = card.recipe["setup"]
    if cut := [name for name in ("labels", "target_domain") if name in setup]:
        raise UserError(f"expected a training on labelled images of one set to time, got one with {' and '.join(cut)}")
    plan = plan_training(
        card.defense,
        dataset=card.dataset,
        data_root=evaluation.data_root,
        limit=(WARM_UP + steps) * setup["batch_size"],
        settings={**card.recipe["settings"], **setup, "epochs": 1, "holdout": 0},
        seed=card.seed,
        precision=card.recipe["precision"],
    )
    clock = Clock()
    with scratch() as folder:
        loop.train(plan, folder / "timed.pt", device=evaluation.device, progress=clock)
    if clock.steps < WARM_UP + 2:
        raise UserError(f"expected at least {WARM_UP + 2} batches of training images to time, got {clock.steps}")
    images = len(plan.split) - setup["holdout"]
    steps_per_epoch = max(images // setup["batch_size"], 1)
    low, middle, high = (steps_per_epoch * value for value in clock.quartiles())
    return {
        "seconds": middle,
        "quartiles": [low, high],
        "images": images,
        "batch_size": setup["batch_size"],
        "passes": clock.passes / (clock.steps * setup["batch_size"]),
        "threads": torch.get_num_threads(),
    }


WARM_UP = 2


@dataclass
class Clock(loop.SilentTraining):
    """Notes when each step ends."""

    ends: list[float] = field(default_factory=list)
    passes: int = 0

    def advance(self, step: int, loss: float, passes: int) -> None:
        self.ends.append(time.perf_counter())  # the loss has come back from the device
        self.passes = passes

    @property
    def steps(self) -> int:
        return len(self.ends)

    def quartiles(self) -> list[float]:
        """Of the seconds of a step, without those that warm up."""
        seconds = [end - begin for begin, end in zip(self.ends[WARM_UP - 1 :], self.ends[WARM_UP:], strict=False)]
        return quantiles(seconds, method="inclusive")
