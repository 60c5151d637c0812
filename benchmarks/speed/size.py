"""What the leaderboard and its page take on a ledger of many cells: seconds and MiB, read first and read again.

    uv run python benchmarks/speed/size.py [--models 1250]

It makes the ledger (1,250 models, clean and under 3 attacks, 1,000 examples each: 5,000 cells) in a temporary folder.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ledgers

ATTACKS = ("fgsm", "pgd-20", "square")
EXAMPLES = 1000
COMMANDS = (
    ("read first", ("leaderboard", "--format", "csv")),
    ("read again", ("leaderboard", "--format", "csv")),
    ("the page", ("leaderboard", "--format", "html")),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1250)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledgers.write(Path(folder), given.models, ATTACKS, EXAMPLES)
        time.sleep(3)  # what is younger is not indexed
        print(f"{given.models * (1 + len(ATTACKS)):,} cells")
        for name, command in COMMANDS:
            started = time.perf_counter()
            arguments = [sys.executable, "-m", "robench", *command, "--results", folder]
            process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"robench {' '.join(command)} failed")
            seconds, processor = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
            print(f"{name}: {seconds:.1f} s ({processor:.1f} of a core), {usage.ru_maxrss / 1024:.0f} MiB")
        print(f"leaderboard.html: {(Path(folder) / 'leaderboard.html').stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
