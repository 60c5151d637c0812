"""Checks of the words of a command that need no torch, so that a wrong one is told at once."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from robench.data.catalog import DATASETS, FORMS
from robench.specs.benchmark import load as load_benchmark
from robench.specs.choices import TORCHSCRIPT
from robench.specs.queue import load as load_queue
from robench.specs.suite import suite as load_suite
from robench.utils import registry
from robench.utils.device import check_device
from robench.utils.errors import UserError, unknown
from robench.utils.sizes import Size, check_norm, parse_size


def check(
    *,
    model: str | None = None,
    suite: str | None = None,
    attacks: Sequence[str] = (),
    defenses: Sequence[str] = (),
    dataset: str | None = None,
    arch: str | None = None,
    norm: str | None = None,
    eps: Size | None = None,
    device: str | None = None,
) -> None:
    """Refuses what can be nothing that robench knows; what can be is looked at again when it is used."""
    for name in [*(load_suite(suite).attacks if suite else ()), *attacks]:
        _check_file(registry.attack_entry(name)[0])
    known = sorted([*registry.recipes(), *registry.bare_defenses()])
    for name in defenses:
        _check_file(name)
        if not name.endswith(".py") and name not in known:
            raise unknown("defense", name, known)
    if dataset is not None and dataset.isidentifier() and dataset not in DATASETS and not Path(dataset).exists():
        raise unknown("dataset", dataset, [*DATASETS, *FORMS])
    if arch is not None:
        users = registry.users_file(arch)
        if users is not None:
            _check_file(str(users[0]))
        elif arch not in (networks := [*_networks(), TORCHSCRIPT]):
            raise unknown("architecture", arch, networks)
    if norm is not None:
        check_norm(norm)
    if eps is not None:
        parse_size(eps)
    check_device(device)
    if model is not None:
        _check_checkpoint(model)


def check_benchmark(name: str) -> None:
    """Refuses a benchmark, or a word in it, likewise."""
    benchmark = load_benchmark(name)
    check(
        suite=benchmark.suite,
        attacks=benchmark.battery,
        defenses=[each.defense for each in benchmark.trained],
        dataset=benchmark.dataset,
        eps=benchmark.eps,
    )


def check_queue(name: str, only: str) -> None:
    """Refuses a queue, or a word in its items of which the names match `only`, likewise."""
    for item in load_queue(name, only):
        attacks = [attack for each in item.evaluations.values() for attack in each.attacks]
        check(defenses=[item.defense], attacks=attacks, dataset=item.shared.dataset, eps=item.shared.eps)


def _check_file(name: str) -> None:
    if name.endswith(".py") and not Path(name).is_file():
        raise UserError(f"there is no file {name}")


def _check_checkpoint(model: str) -> None:
    path = Path(model.partition(";")[0])
    if path.suffix in (".pt", ".pth", ".safetensors") and ":" not in model and not path.is_file():
        raise UserError(f"there is no checkpoint {path}")


def _networks() -> Iterator[str]:
    """The names in the tables NETWORKS of robench/models/, which import torch as they are loaded."""
    for path in (Path(__file__).parents[1] / "models").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NETWORKS":
                yield from ast.literal_eval(ast.List(node.value.keys, ast.Load()))  # type: ignore[attr-defined]
