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

import ledgers

ATTACKS = ("fgsm", "pgd-20", "pgd-100", "cw-30", "mim", "feature", "square", "rays", "spsa-256")
MODELS, EXAMPLES = 100, 1000
COMMANDS = (
    ("leaderboard", "--format", "csv"),
    ("leaderboard", "--format", "html"),
    ("table", "adt-table1"),
    ("figure", "ald-fig5"),
    ("compare", "cifar10-pgd_at-s0", "cifar10-trades-s0"),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledgers.write(Path(folder), MODELS, ATTACKS, EXAMPLES)
        print(f"{MODELS * (1 + len(ATTACKS)) * EXAMPLES:,} rows")
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
