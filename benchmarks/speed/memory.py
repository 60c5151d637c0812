"""The memory that `robench eval` takes at its peak, on 100,000 and on 1,000,000 streamed images.

    uv run python benchmarks/speed/memory.py [--workers 2]

It writes the images (8x8, grey) as Parquet files in a temporary folder, and attacks a linear model with FGSM. With
workers the parent's peak is what counts, or a worker's where that is larger. The larger set takes minutes.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIZES = (100_000, 1_000_000)
GROUP = 10_000
NETWORK = """
import torch
from torch import nn

def bright():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([-torch.ones(64), torch.ones(64)]))
        model[1].bias.copy_(torch.tensor([31.9, -31.9]))
    return model
"""
"""Tells images brighter than the middle from darker ones."""


def write(folder: Path, examples: int) -> None:
    """`GROUP` random images in each group of rows, in another order."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (GROUP, 8, 8), dtype=np.uint8)
    encoded, labels = pa.array([png(image) for image in pixels]), (pixels.mean((1, 2)) > 127).astype(np.int64)
    folder.mkdir()
    with pq.ParquetWriter(
        folder / "test-00000-of-00001.parquet", pa.schema({"image": pa.binary(), "label": pa.int64()})
    ) as file:
        for _ in range(examples // GROUP):
            order = rng.permutation(GROUP)
            file.write_table(pa.table({"image": encoded.take(pa.array(order)), "label": labels[order]}))


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def peak(folder: Path, data: Path, workers: int) -> float:
    """MiB of the largest process of an evaluation."""
    arguments = ["eval", "--model", str(folder / "network.py") + ":bright", "--dataset", f"parquet:{data}"]
    arguments += ["--attack", "fgsm", "--eps", "0.02", "--batch-size", "1000", "--workers", str(workers)]
    program = "from robench.cli.main import main; main()"
    command = [sys.executable, "-c", program, *arguments, "--results", str(folder / "results")]
    process = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit("the evaluation failed")
    return usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help=f"multiples of {GROUP}")
    given = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "network.py").write_text(NETWORK)
        for examples in given.sizes:
            write(folder / str(examples), examples)
            started = time.perf_counter()
            peaks.append(peak(folder, folder / str(examples), given.workers))
            print(f"{examples:,} images: {peaks[-1]:.0f} MiB, {time.perf_counter() - started:.0f} s", flush=True)
    print(f"ratio of the last to the first: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
