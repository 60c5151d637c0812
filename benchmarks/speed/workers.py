"""How much faster two worker processes of one thread each are than one, on a tiny model: seconds, medians, the ratio.

    uv run python benchmarks/speed/workers.py [--repeats 3] [--restarts 80]

The evaluation (a linear model of scikit-learn's digits under PGD-100) is timed from its beginning to its summary, the
start of the workers with it; what comes before, Python's imports and the model, is not. The two take turns at being
first, and the ledgers must be equal. It takes a quarter of an hour, and means nothing unless two cores are idle.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def evaluate(workers: int, restarts: int, results: str) -> float:
    """Seconds that an evaluation takes in this process and its workers."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from torch import nn

    from robench.data import datasets
    from robench.evaluation import run
    from robench.evaluation.plan import EvaluationOptions, plan_evaluation
    from robench.evaluation.shards import Scale

    torch.set_num_threads(workers)  # which the workers divide among them
    train = datasets.load("digits", "train")
    fitted = LogisticRegression(max_iter=200).fit(train.floats(slice(None)).flatten(1), train.labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.from_numpy(fitted.coef_))
        model[1].bias.copy_(torch.from_numpy(fitted.intercept_))
    planned = plan_evaluation(
        model, EvaluationOptions(attacks=[f"pgd-100:restarts={restarts}"], eps=0.02, batch_size=8)
    )
    started = time.perf_counter()
    run.run(planned, results, scale=Scale.of(workers))
    return time.perf_counter() - started


def timed(workers: int, restarts: int, results: Path) -> float:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--restarts", str(restarts), "--one", str(workers), str(results)]
    done = subprocess.run(command, env=os.environ | THREADS, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def equal(first: Path, second: Path) -> bool:
    """Whether two ledgers have the same cells with the same rows, but for the time they took."""
    from robench.ledger.store import Ledger

    rows = [
        {cell.path.name: (cell.found, cell.table().drop_columns("seconds")) for cell in Ledger(results).cells()}
        for results in (first, second)
    ]
    return rows[0] == rows[1] and len(rows[0]) == 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=80, help="of the attack: how long the runs are")
    parser.add_argument("--one", nargs=2, metavar=("WORKERS", "RESULTS"), help="one run only: prints its seconds")
    given = parser.parse_args()
    if given.one:
        print(evaluate(int(given.one[0]), given.restarts, given.one[1]))
        return
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(given.repeats):
            results = {workers: Path(folder) / f"{repeat}-{workers}" for workers in seconds}
            for workers in sorted(seconds, reverse=bool(repeat % 2)):
                seconds[workers].append(timed(workers, given.restarts, results[workers]))
            same = equal(*results.values())
            print(f"1: {seconds[1][-1]:.1f} s, 2: {seconds[2][-1]:.1f} s, ledgers equal: {same}", flush=True)
            if not same:
                raise SystemExit("the ledgers differ")
    one, two = median(seconds[1]), median(seconds[2])
    print(f"medians of {given.repeats}: 1 worker {one:.1f} s, 2 workers {two:.1f} s, ratio {one / two:.2f}")


if __name__ == "__main__":
    main()
