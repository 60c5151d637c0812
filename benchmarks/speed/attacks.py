"""Attacks of robench against torchattacks, foolbox and adversarial-robustness-toolbox, side by side on the CPU.

    uv run --group peers python benchmarks/speed/attacks.py

It prints its tables and writes attacks.csv and attacks.png beside itself, which keep what an earlier run of other parts
wrote. What it shows stands in README.md there.
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import machine
import peers
import pgd
import plot
import precision
import record
import suite
import torch
import typer
from record import Row
from setting import Setting

import robench
from robench.data import datasets
from robench.evaluation.target import load_model
from robench.training.plan import checkpoint_path, plan_training
from robench.utils.errors import UserError

HERE = Path(__file__).parent
PARTS = ("pgd", "cifar", "suite", "precision")
"""PGD on MNIST, PGD on CIFAR-10, the suite on MNIST, and precisions there."""

MNIST_EPS, MNIST_EPS_HALF = "0.3", "0.37"
"""The usual radius, and one at which about half of the images survive on our model."""

CIFAR_EPS = ("0.5/255", "8/255")
"""At the first about two thirds of the images survive on the model that is not trained for robustness; nobody does at
the second, the usual one."""

CIFAR = "parquet:data/cifar10-first1000"
DEFENSE = "trades"
TRAINING: dict[str, Any] = {
    "dataset": "mnist",
    "arch": "small_cnn",
    "limit": 12000,
    "epochs": 10,
    "precision": "bfloat16",
    "settings": {"lr": 0.05, "eps_warmup": 4, "steps": 10, "step_size": "eps/5"},
}
"""A short schedule that leaves most images standing at eps 0.3."""


def main(
    mnist: Annotated[Path | None, typer.Option(help="a robench checkpoint; by default one is trained")] = None,
    cifar: Annotated[Path | None, typer.Option(help="a checkpoint; by default pyautoattack's example model")] = None,
    arch: Annotated[str | None, typer.Option(help="of --cifar where that is a bare state dict")] = None,
    part: Annotated[list[str], typer.Option(help=f"some of {', '.join(PARTS)}")] = list(PARTS),  # noqa: B006
    n: Annotated[int, typer.Option(min=1, help="MNIST images")] = 500,
    cifar_n: Annotated[int, typer.Option(min=1, help="CIFAR-10 images")] = 64,
    cifar_repeats: Annotated[int, typer.Option(min=1)] = 1,
    suite_n: Annotated[int, typer.Option(min=1, help="MNIST images of the suite without SPSA")] = 500,
    spsa_n: Annotated[int, typer.Option(min=1, help="MNIST images of the suite with SPSA")] = 16,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="by default one for each core")] = None,
    data_root: Path = Path("data"),
    results: Path = Path("results"),
    out: Annotated[Path, typer.Option(help="folder of attacks.csv and attacks.png")] = HERE,
) -> None:
    """Times robench's attacks against the peers'."""
    if unknown := set(part) - set(PARTS):
        raise UserError(f"expected some of the parts {', '.join(PARTS)}, got {', '.join(unknown)}")
    if threads:
        torch.set_num_threads(threads)
    words = machine.in_words(peers.LIBRARIES)
    print(words, flush=True)
    checkpoint = mnist or _trained(data_root, results)
    out.mkdir(parents=True, exist_ok=True)
    earlier, rows = record.read(out / "attacks.csv"), list[Row]()

    def keep(found: list[Row]) -> None:
        rows.extend(record.on(words, row) for row in found)
        together = record.together(rows, earlier)
        record.write(together, out / "attacks.csv")
        plot.draw(together, out / "attacks.png")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split = datasets.load("mnist", "test", root=data_root)
        subject = load_model(checkpoint, shape=split.shape)
        digits = Setting.of("mnist", subject, split, MNIST_EPS, max(n, suite_n, spsa_n), folder)
        batches = pgd.best_batches(digits)
        if "pgd" in part:
            for steps in (20, 100):
                keep(pgd.race(digits.first(n), steps, repeats, batches))
        if "cifar" in part:
            keep(_on_cifar(cifar, arch, cifar_n, cifar_repeats, folder))
        if "suite" in part:
            for images in (digits, digits.within(MNIST_EPS_HALF)):
                keep(
                    suite.race(images.first(suite_n), [name for name in peers.SUITE if name != peers.SPSA], 1, batches)
                )
                keep(suite.race(images.first(spsa_n), list(peers.SUITE), 1, batches))
        if "precision" in part:
            for attack in ("pgd-20", "pgd-100"):
                keep(precision.compare(digits.first(n), attack, repeats))


def _trained(data_root: Path, results: Path) -> Path:
    """The MNIST model, trained where it is not there yet."""
    options = {**TRAINING, "data_root": data_root}
    path = checkpoint_path(plan_training(DEFENSE, **options), results)
    if not path.exists():
        print(f"training small_cnn by TRADES, 10 to 20 minutes on a core; it is kept in {path}", flush=True)
    return robench.train(DEFENSE, results=results, resume=True, **options).path


def _on_cifar(checkpoint: Path | None, arch: str | None, n: int, repeats: int, folder: Path) -> list[Row]:
    """PGD-20 at both radii, and PGD-100 at the first on half the images."""
    if checkpoint is None:
        checkpoint, arch = Path(str(files("pyautoattack") / "examples" / "model_test.pt")), "resnet18"
        print(
            "\nCIFAR-10: no robust resnet18 is at hand. This is the example model of pyautoattack: at the usual 8/255 "
            f"nobody survives, so the line with the fallen dropped is read at {CIFAR_EPS[0]}."
        )
    split = datasets.load(CIFAR, "test")
    subject = load_model(checkpoint, arch=arch, shape=split.shape)
    images = Setting.of("cifar10", subject, split, CIFAR_EPS[0], n, folder)
    batches = pgd.best_batches(images)
    return [
        *pgd.race(images, 20, repeats, batches),
        *pgd.race(images.within(CIFAR_EPS[1]), 20, repeats, batches),
        *pgd.race(images.first(max(n // 2, 1)), 100, repeats, batches),
    ]


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"robench: {error}")
