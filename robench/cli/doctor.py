"""What a machine has of what robench needs."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from robench.data import datasets
from robench.data.catalog import DATASETS
from robench.ledger.checkup import count, damage
from robench.utils import registry
from robench.utils.errors import UserError

PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "pandas", "pyarrow", "scikit-learn", "pydantic", "typer")


@dataclass(frozen=True)
class Finding:
    what: str
    well: bool
    detail: str


def examine(data_root: Path, results: Path) -> list[Finding]:
    """One finding for Python, each package, the device, each folder of content, each data set, the results
    folder, the ledger."""
    return [
        Finding("python", True, f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"),
        *(_package(name) for name in PACKAGES),
        _device(),
        _content(),
        *(_dataset(name, data_root) for name in DATASETS),
        _writable(results),
        *_ledger(results),
    ]


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "not installed; install robench again with its dependencies")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", True, f"cuda, {torch.cuda.get_device_name()}")
    return Finding("device", True, f"cpu, {torch.get_num_threads()} threads (no CUDA device)")


def _content() -> Finding:
    folders = [registry.folder(name) for name in ("attacks", "defenses", "benchmarks")]
    return Finding("content", all(folder.is_dir() for folder in folders), ", ".join(map(str, folders)))


def _dataset(name: str, root: Path) -> Finding:
    try:
        return Finding(
            f"dataset {name}", True, f"{len(datasets.load(name, 'test', root=root, stream=True))} test images"
        )
    except UserError as error:
        return Finding(f"dataset {name}", False, str(error))


def _ledger(results: Path) -> list[Finding]:
    """One finding for each thing that is wrong with it, once all of it has been read."""
    if broken := list(damage(results)):
        return [Finding("ledger", False, sentence) for sentence in broken]
    return [Finding("ledger", True, f"all of {count(results)} cells in {results} can be read")]


def _writable(results: Path) -> Finding:
    place = next(folder for folder in (results, *results.absolute().parents) if folder.exists())
    well = place.is_dir() and os.access(place, os.W_OK)
    return Finding("results folder", well, f"{results} {'can' if well else 'cannot'} be written")
