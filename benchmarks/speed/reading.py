"""How long the commands that only read take on a compacted ledger of a million rows: seconds, median of three.

    uv run python benchmarks/speed/reading.py

It makes the ledger (100 models under 9 attacks, 1,000 examples each, with their clean cells) in a temporary folder.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from robench.ledger.schema import ROW
from robench.ledger.store import Ledger

ATTACKS = ("clean", "fgsm", "pgd-20", "pgd-100", "cw-30", "mim", "feature", "square", "rays", "spsa-256")
DEFENSES = (
    "standard",
    "pgd_at",
    "trades",
    "ald_pgd",
    "ald_trades",
    "adt_exp",
    "adt_exp_am",
    "adt_imp_am",
    "atld",
    "awp",
)
MODELS, EXAMPLES = 100, 1000
COMMANDS = (
    ("leaderboard", "--format", "csv"),
    ("leaderboard", "--format", "html"),
    ("table", "adt-table1"),
    ("figure", "ald-fig5"),
    ("compare", "cifar10-pgd_at-s0", "cifar10-trades-s0"),
)


def make(results: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(MODELS):
        defense, seed = DEFENSES[place % len(DEFENSES)], place // len(DEFENSES)
        label = rng.integers(0, 10, EXAMPLES)
        wrong = rng.random(EXAMPLES) < 0.1
        for attack in ATTACKS:
            fooled = wrong if attack == "clean" else wrong | (rng.random(EXAMPLES) < 0.4)
            recipe = {"name": defense, "settings": {}, "setup": {"arch": "resnet18", "epochs": 100}, "limit": None}
            about = {
                "model": f"cifar10-{defense}-s{seed}",
                "arch": "resnet18",
                "defense": defense,
                "recipe": recipe,
                "train_seed": seed,
                "trained_on": "cifar10",
                "dataset": "cifar10 (test)",
                "norm": "linf",
                "eps": "8/255",
                "attack": attack,
                "classes": 10,
                "access": "scores" if attack in ("square", "rays", "spsa-256") else "gradients",
            }
            configured = {"function": attack, "settings": {}}
            key = {"model": place, "dataset": "cifar10", "threat": ["linf", 8 / 255], "attack": configured}
            columns = {
                "example": np.arange(EXAMPLES),
                "label": label,
                "fooled": fooled,
                "seed": np.zeros(EXAMPLES),
                "clean_prediction": np.where(wrong, (label + 1) % 10, label),
                "seconds": np.full(EXAMPLES, 0.01),
                **{name: np.full(EXAMPLES, 20) for name in ("forwards", "backwards", "queries", "first_step")},
                "status": np.full(EXAMPLES, "ok", dtype=object),
            }
            arrays = [
                pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(EXAMPLES, field.type)
                for field in ROW
            ]
            run = {"started": f"2026-01-{place % 28 + 1:02d}", "command": "robench bench", "versions": {}}
            Ledger(results).cell(key, about, run).append(pa.table(arrays, schema=ROW))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        print(f"{MODELS * len(ATTACKS) * EXAMPLES:,} rows")
        for command in COMMANDS:
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                program = "import sys; from robench.cli.main import main; main(); assert 'torch' not in sys.modules"
                arguments = [sys.executable, "-c", program, *command, "--results", folder]
                subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
                seconds.append(time.perf_counter() - started)
            print(f"robench {' '.join(command)}: {median(seconds):.2f} s")


if __name__ == "__main__":
    main()
