"""robench's side: one attack through its engine and ledger, as `robench eval` runs it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from setting import Setting
from timing import timed
from torch import Tensor

from robench.evaluation import run
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.ledger.provenance import run_manifest
from robench.ledger.store import Ledger

BATCH = 256
"""Examples in hand at once, the most that the peers may take; how many of them make a pass the engine's probe says."""


@dataclass(frozen=True)
class Crafted:
    """Adversarial examples and what they cost; what only robench tells has a default."""

    x_adv: Tensor
    seconds: float
    """from the images in memory to their adversarial examples, the judge's look at each included"""
    call: float | None = None
    """the whole evaluation, with the engine's probe, the diagnosis and the ledger"""
    robust_last: float | None = None
    """the share that the last iterate left, by the judge"""
    precision: str = "float32"
    batch: int | None = None


def attack(setting: Setting, name: str, results: Path, *, seed: int, precision: str, whole: bool = False) -> Crafted:
    """One attack with its default settings; `whole`: no broken example is dropped before the last step."""
    planned = plan_evaluation(
        setting.subject,
        EvaluationOptions(
            attacks=[name],
            dataset=f"npz:{setting.file}",
            norm="linf",
            eps=setting.eps_written,
            n=setting.n,
            seed=seed,
            device="cpu",
            precision=precision,
            batch_size=BATCH,
        ),
    )
    evaluation = replace(planned, readings="final" if whole else "any")
    manifest = run_manifest("cpu")
    cells, call = timed(lambda: run.evaluate(evaluation, Ledger(results), manifest, keep_images=True))
    cell = cells[evaluation.attacks[0].name]
    tuning = cell.run["tuning"]
    rows, x_adv = cell.rows(), setting.x.clone()
    for row, image in cell.images().items():
        x_adv[row] = torch.from_numpy(image)
    return Crafted(
        x_adv,
        seconds=float(rows["seconds"].sum()),
        call=call,
        robust_last=1 - float(rows["fooled_final"].mean()) if whole else None,
        precision=tuning["precision"],
        batch=tuning["points"] or cell.run["batch_size"],
    )
