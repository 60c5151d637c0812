"""What keeping memory between passes gains: a forward pass and the backward to the image, with and without it.

    uv run python benchmarks/speed/allocation.py

The model as loaded, on one thread, in batches of 64; with and without take turns, each in processes of its own.
"""

import argparse
import os
import subprocess
import sys
from statistics import median

from workers import THREADS

SHAPES = {"small_cnn": (1, 28, 28), "resnet18": (3, 32, 32)}
ROUNDS, BATCH = 5, 64


def seconds(arch: str, kept: bool) -> float:
    """Of the passes of a batch, in this process."""
    import floor
    import torch

    from robench.models import build
    from robench.utils.memory import keep_memory

    if kept:
        keep_memory()
    model = build(arch, SHAPES[arch], 10).eval().requires_grad_(False)
    x, y = torch.rand(BATCH, *SHAPES[arch]), torch.zeros(BATCH, dtype=torch.int64)
    return median(floor.measure(model, x, y, BATCH).pair for _ in range(5))


def apart(arch: str, kept: bool) -> float:
    """The same in another process."""
    command = [sys.executable, __file__, arch, *(["--kept"] if kept else [])]
    done = subprocess.run(command, env=os.environ | THREADS, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("arch", nargs="?", choices=SHAPES, help="one measurement only: prints its seconds")
    parser.add_argument("--kept", action="store_true")
    given = parser.parse_args()
    if given.arch:
        print(seconds(given.arch, given.kept))
        return
    for arch in SHAPES:
        rounds = [(apart(arch, kept=True), apart(arch, kept=False)) for _ in range(ROUNDS)]
        kept, not_kept = (1000 * median(times) for times in zip(*rounds, strict=True))
        ratio = median(first / second for first, second in rounds)
        print(f"{arch}: {kept:.1f} ms kept, {not_kept:.1f} ms by default, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
