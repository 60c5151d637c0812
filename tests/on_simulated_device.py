"""What workflows/test_simulated_device.py runs in a process of its own: evaluations and trainings on the CPU, and on a
CUDA device that is simulated there.

Started with the folder to write to, "few" or "all", and the path of a checkpoint of the digits.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import simulated_cuda

simulated_cuda.install("robench/", "attacks/", "defenses/")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402

import robench  # noqa: E402
from robench.data import datasets  # noqa: E402
from robench.ledger.store import Ledger  # noqa: E402
from robench.training import recipe  # noqa: E402
from robench.training.loop import train  # noqa: E402
from robench.training.plan import Plan  # noqa: E402

FEW = ("fgsm", "pgd-10", "apgd:steps=5", "squares:queries=20", "multi_targeted:steps=3,targets=2")
ALL = (
    *(
        "feature:steps=3",
        "mim:steps=5",
        "cw:steps=5",
        "spsa:steps=2,evaluations=16",
        "rays:queries=20",
        "adt_exp:steps=3",
        "square",
    ),
    *("adt_exp_am:epochs=1,filters=8", "adt_imp_am:epochs=1,filters=8", "foolbox:LinfPGD:steps=3", "bb:steps=5"),
    *("autoattack:component=apgd-ce", "transfer-fgsm"),
)
SHORT = ("fgsm", "pgd-10", "multi_targeted:steps=3,targets=2")
TRAINED = ("trades", "awp")


def evaluated(model: str, attacks: Sequence[str], device: str, results: Path) -> dict[str, pd.DataFrame]:
    """The rows of each attack."""
    robench.evaluate(
        model,
        attacks=attacks,
        n=8,
        device=device,
        results=results,
        precision="float32",
        sources=[model] if "transfer-fgsm" in attacks else (),
    )
    return {cell.about["attack"]: cell.rows() for cell in Ledger(results).cells() if not cell.found}


def differences(attack: str, on_cpu: pd.DataFrame, on_cuda: pd.DataFrame) -> list[str]:
    """The columns in which two runs differ, by more than rounding where it does not grow with the steps."""
    exact = {"id", "fooled", "status", "error"} & set(on_cpu.columns)
    found = [name for name in exact if not on_cpu[name].equals(on_cuda[name])]
    for name in ("margin", "distance") if attack in SHORT else ():
        first, second = (frame[name].to_numpy(dtype=float, na_value=np.nan) for frame in (on_cpu, on_cuda))
        if not np.allclose(first, second, atol=1e-4, equal_nan=True):
            found.append(name)
    return sorted(found)


def trained(name: str, device: str, out: Path) -> dict[str, torch.Tensor]:
    """The weights after three steps."""
    split = datasets.load("digits", "train")
    settings = {"epochs": 1, "holdout": 40, "eps_warmup": 0, "batch_size": 32, "select": "last"}
    plan = Plan(recipe.resolve(name, "digits", split.shape, settings), "digits", split, limit=96)
    train(plan, out, device=device)
    weights: dict[str, torch.Tensor] = torch.load(out, weights_only=True)["weights"]
    return weights


def main(folder: Path, which: str, model: str) -> None:
    attacks = (*FEW, *ALL) if which == "all" else FEW
    names = recipe.names() if which == "all" else TRAINED
    found: dict[str, Any] = {"attacks": {}, "trainings": {}}
    rows = {device: evaluated(model, attacks, device, folder / device) for device in ("cpu", "cuda")}
    found["attacks"] = {name: differences(name, rows["cpu"][name], each) for name, each in rows["cuda"].items()}
    found["ran"] = list(rows["cpu"])
    mixed = evaluated(model, attacks[:1], "cpu", folder / "cuda")  # what one device wrote the other takes
    found["taken"] = mixed[attacks[0]].equals(rows["cuda"][attacks[0]])
    for name in names:
        weights = [trained(name, device, folder / f"{name}-{device}.pt") for device in ("cpu", "cuda")]
        found["trainings"][name] = max(float((weights[0][each] - weights[1][each]).abs().max()) for each in weights[0])
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # TF32 is not the CPU's rounding
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
