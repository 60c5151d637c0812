"""The suite `strong` beside AutoAttack on the same images: survivors, seconds, and who fell to one of them only.

    uv run python benchmarks/speed/strong.py CHECKPOINT... --n 200 --threads 1

Both attack in one process with the same threads, AutoAttack (standard, from `pyautoattack`) in batches of 250, its
default; the seconds hold everything but loading. What either calls adversarial is judged by robench's judge. It writes
benchmarks/speed/strong.csv.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pyautoattack import AutoAttack

from robench.evaluation import Evaluation
from robench.ledger import Ledger
from robench.planning import plan_evaluation
from robench.provenance import run_manifest
from robench.running import evaluate
from robench.summary import tallies_of

OUT = Path(__file__).with_suffix(".csv")


def machine() -> str:
    """The processor and its cores, in words."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def ours(planned: Evaluation) -> torch.Tensor:
    """Who survives `strong` [N]."""
    with tempfile.TemporaryDirectory() as results:
        cells = evaluate(planned, Ledger(results), run_manifest(planned.device))
        fell = [tally.fooled | tally.skipped for tally in tallies_of(cells).values()]
    return torch.from_numpy(~np.any(fell, axis=0))


def theirs(planned: Evaluation) -> torch.Tensor:
    """Who survives AutoAttack [N]."""
    x, y = planned.split.floats(slice(planned.n)), planned.split.labels[: planned.n]
    model = planned.subject.model.eval().requires_grad_(False)
    library = AutoAttack(
        model, eps=planned.threat.eps, norm=planned.threat.norm.capitalize(), seed=planned.seed, device=planned.device
    )
    x_adv, _ = library.run_standard_evaluation(x.to(planned.device), y.to(planned.device), batch_size=250)
    verdicts = planned.judges(planned.device)[0](x_adv, x.to(planned.device), y.to(planned.device))
    return ~verdicts.fooled.cpu()


def compare(planned: Evaluation) -> dict[str, Any]:
    survivors, seconds = {}, {}
    for name, attack in (("strong", ours), ("autoattack", theirs)):
        started = time.perf_counter()
        survivors[name] = attack(planned)
        seconds[name] = time.perf_counter() - started
    only = {
        "strong": survivors["autoattack"] & ~survivors["strong"],
        "autoattack": survivors["strong"] & ~survivors["autoattack"],
    }
    return {
        "model": planned.subject.name,
        "arch": planned.subject.arch,
        "dataset": planned.split.name,
        "threat": str(planned.threat),
        "n": len(planned.wanted),
        **{f"{name}_survivors": int(standing.sum()) for name, standing in survivors.items()},
        **{f"{name}_seconds": round(value, 1) for name, value in seconds.items()},
        "ratio": round(seconds["strong"] / seconds["autoattack"], 3),
        **{f"only_{name}": " ".join(map(str, fell.nonzero().flatten().tolist())) for name, fell in only.items()},
        "device": planned.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--n", type=int, default=200, help="the first N test images")
    parser.add_argument("--eps", help="the checkpoint's by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=128, help="of robench")
    parser.add_argument("--device")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for checkpoint in given.checkpoints:
        planned = plan_evaluation(
            checkpoint,
            suite="strong",
            n=given.n,
            eps=given.eps,
            seed=given.seed,
            batch_size=given.batch_size,
            device=given.device,
            data_root=given.data_root,
        )
        rows.append(compare(planned))
        print(pd.Series(rows[-1]).to_string(), flush=True)
        print()
        pd.DataFrame(rows).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
