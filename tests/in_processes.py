"""What each of two processes runs for training/test_distributed.py: trainings in turn, and what they end in.

Started with the folder to write to, and the variables that a launcher of processes sets.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robench.data import datasets
from robench.training import recipe
from robench.training.defense import Batch, Defense, Step
from robench.training.loop import SilentTraining, _Loop
from robench.training.plan import Plan
from robench.utils.errors import UserError

SETTINGS: dict[str, dict[str, Any]] = {
    "standard": {"augment": ["crop", "flip"]},
    "pgd_at": {"steps": 3, "batch_size": 33},
    "trades": {"steps": 3, "norm": "l2", "eps": 1.0},
    "mart": {"steps": 3},
    "fgsm_at": {"target": "random"},
    "input_noise": {},
    "awp": {"wraps": "pgd_at:steps=3", "gamma": 0.05},
    "ald_trades": {"steps": 3, "particles": 3, "kernel_scope": "example"},
    "adt_exp": {"steps": 3, "samples": 3},
}
"""Defenses whose weights two processes make as one does."""

SHARED: dict[str, dict[str, Any]] = {"adt_exp_am": {"filters": 8}}
"""A player of these has batch norm."""


def plan(name: str, **changes: Any) -> Plan:
    """Six steps in two epochs, from the first of which the radius grows."""
    split = datasets.load("digits", "train")
    settings = {"epochs": 2, "holdout": 100, "eps_warmup": 1, "select": "last", "drops": [], **changes}
    resolved = recipe.resolve(name, "digits", split.shape, settings)
    return Plan(resolved, "digits", split, limit=3 * resolved.setup.batch_size)


def loop(planned: Plan, out: Path) -> _Loop:
    return _Loop(planned, out, Accelerator(cpu=True), SilentTraining(), 0)


def ended(planned: Plan, out: Path) -> dict[str, dict[str, Tensor]]:
    """The weights of all players after a training."""
    trained = loop(planned, out)
    trained.run(resume=False)
    return {name: network.state_dict() for name, network in trained.run_state.players.items()}


@dataclass(frozen=True)
class FailsInSecond(Defense):
    """In the second epoch the second process comes to have no finite loss, or is no more."""

    ends: bool = False

    def losses(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(step.model(batch.x), batch.y)
        if step.share.processes.index == 1 and step.epoch > 1:
            if self.ends:
                os._exit(3)
            loss = loss * torch.nan
        return {"model": loss}


def with_defense(planned: Plan, defense: Defense) -> Plan:
    return replace(planned, recipe=replace(planned.recipe, defense=defense))


def main(folder: Path) -> None:
    rank = os.environ["RANK"]
    found: dict[str, Any] = {}
    for name, settings in {**SETTINGS, **SHARED}.items():
        found[name] = ended(plan(name, **settings), folder / f"{name}.pt")
    for name, defense in (("nan", FailsInSecond()), ("end", FailsInSecond(ends=True))):
        try:
            loop(with_defense(plan("standard"), defense), folder / f"{name}.pt").run(resume=False)
        except UserError as error:
            found[name] = str(error)
        torch.save(found, folder / f"process{rank}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
