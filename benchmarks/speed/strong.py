"""The suite `strong` beside AutoAttack on the same images: survivors, seconds, and who fell to one of them only.

    uv run python benchmarks/speed/strong.py MODEL... --n 200 --threads 1

A model is a checkpoint or a factory; `--dataset` and `--eps`, which a factory needs, hold for all that are named. Both
attack in one process with the same threads, AutoAttack (standard, from `pyautoattack`) in one batch a component, its
parts in their order on the survivors of those before, as it runs them; the seconds hold everything but loading. What
either calls adversarial is judged by robench's judge. Rows are added to benchmarks/speed/strong.csv; a model's row on
the same images replaces the one before.
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

from robench.evaluation.evaluation import Evaluation
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import evaluate
from robench.ledger.per_example import tally
from robench.ledger.provenance import run_manifest
from robench.ledger.store import Ledger

OUT = Path(__file__).with_suffix(".csv")
COMPONENTS = ("apgd-ce", "apgd-t", "fab-t", "square")


def machine() -> str:
    """The processor and its cores, in words."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def ours(planned: Evaluation) -> torch.Tensor:
    """Who survives `strong` [N]."""
    with tempfile.TemporaryDirectory() as results:
        cells = evaluate(planned, Ledger(results), run_manifest(planned.device))
        fell = [each.fooled | each.skipped for each in tally(cells).values()]
    return torch.from_numpy(~np.any(fell, axis=0))


def theirs(planned: Evaluation) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Who survives AutoAttack [N], and whom each of its components broke [N]."""
    x, y = (part.to(planned.device) for part in (planned.split.floats(slice(planned.n)), planned.split.labels))
    y = y[: len(x)]
    judge = planned.judges(planned.device)[0]
    library = AutoAttack(
        planned.subject.model.to(planned.device).eval().requires_grad_(False),
        eps=planned.threat.eps,
        norm=planned.threat.norm.capitalize(),
        seed=planned.seed,
        device=planned.device,
    )
    standing, broke = ~judge(x, x, y).fooled.cpu(), {}
    for name in COMPONENTS:
        rows = standing.nonzero().squeeze(1)
        broke[name] = torch.zeros_like(standing)
        if len(rows):
            library.attacks_to_run = [name]
            x_adv, _ = library.run_standard_evaluation(x[rows], y[rows], batch_size=len(rows))
            broke[name][rows] = judge(x_adv, x[rows], y[rows]).fooled.cpu()
        standing &= ~broke[name]
    return standing, broke


def compare(planned: Evaluation) -> dict[str, Any]:
    moments = [_now()]
    left = ours(planned)
    moments.append(_now())
    left_by_them, broke = theirs(planned)
    moments.append(_now())
    spent = dict(zip(("strong", "autoattack"), np.diff(moments, axis=0), strict=True))
    return {
        "model": planned.subject.name,
        "arch": planned.subject.arch,
        "dataset": planned.split.name,
        "threat": str(planned.threat),
        "n": len(planned.wanted),
        "strong_survivors": int(left.sum()),
        "autoattack_survivors": int(left_by_them.sum()),
        **{f"{name}_seconds": round(seconds, 1) for name, (seconds, _) in spent.items()},
        **{f"{name}_processor_seconds": round(seconds, 1) for name, (_, seconds) in spent.items()},
        "ratio": round(spent["strong"][0] / spent["autoattack"][0], 3),
        "processor_ratio": round(spent["strong"][1] / spent["autoattack"][1], 3),
        "only_strong": rows_of(left_by_them & ~left),
        "only_autoattack": " ".join(
            f"{name}: {rows_of(left & broke[name])}" for name in COMPONENTS if (left & broke[name]).any()
        ),
        "device": planned.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": machine(),
    }


def _now() -> tuple[float, float]:
    """Seconds on the clock, and of this process on processors: the fairer measure where others work beside it."""
    return time.perf_counter(), time.process_time()


def rows_of(chosen: torch.Tensor) -> str:
    return " ".join(map(str, chosen.nonzero().flatten().tolist()))


def added(rows: list[dict[str, Any]], out: Path) -> pd.DataFrame:
    """The table with these rows, each in place of an older one of the same model on the same images."""
    identity = ["model", "dataset", "threat", "n", "device", "threads"]
    known = [pd.read_csv(out)] if out.exists() else []
    return pd.concat([*known, pd.DataFrame(rows)]).drop_duplicates(identity, keep="last")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--dataset", help="the checkpoint's by default")
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
    for model in given.models:
        planned = plan_evaluation(
            model,
            EvaluationOptions(
                suite="strong",
                dataset=given.dataset,
                n=given.n,
                eps=given.eps,
                seed=given.seed,
                batch_size=given.batch_size,
                device=given.device,
                data_root=given.data_root,
            ),
        )
        rows.append(compare(planned))
        print(pd.Series(rows[-1]).to_string(), flush=True)
        print()
        added(rows, given.out).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
