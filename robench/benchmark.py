"""A benchmark: some defenses and checkpoints against a battery, from training to the leaderboard."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from pydantic import Field

from robench import checkpoint, content, ranking, running, training
from robench.battery import battery
from robench.content import Strict
from robench.errors import UserError, unknown
from robench.evaluation import check_n
from robench.planning import DATASET, checkpoint_path, plan_evaluation, plan_training, resolve_device
from robench.subject import load_model
from robench.threat import Norm, Size


class TrainedDefense(Strict):
    """A recipe with changes to its settings, as `--set` makes them. `init` names a defense that stands before it: it
    starts from that one's checkpoint of the same seed."""

    defense: str
    init: str | None = None
    settings: dict[str, Any] = Field(default={}, alias="set")


class Benchmark(Strict):
    """benchmarks/NAME.yaml. `models` are checkpoints that exist, `sources` those to transfer
    attacks from; `train` changes the settings of all defenses."""

    dataset: str = DATASET
    norm: Norm = "linf"
    eps: Size
    suite: str | None = None
    attacks: list[str] = []
    defenses: list[str | TrainedDefense] = []
    models: list[str] = []
    sources: list[str] = []
    seeds: list[int] = [0]
    n: int | None = None
    limit: int | None = None
    epochs: int | None = None
    train: dict[str, Any] = {}


class Reporter(Protocol):
    """Shows what a benchmark is doing."""

    def say(self, text: str) -> None: ...
    def training(self) -> training.Progress: ...
    def evaluation(self) -> running.Progress: ...


def names() -> list[str]:
    return content.names("benchmarks", "*.yaml")


def load(name: str) -> Benchmark:
    """A benchmark of ours by name, or a user's .yaml file by its path."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in names():
        path = content.folder("benchmarks") / f"{name}.yaml"
    else:
        raise unknown("benchmark", name, names())
    return content.parse(Benchmark, content.read_yaml(path), f"benchmark {name}")


def run(
    name: str,
    *,
    results: Path | str = "results",
    data_root: Path | str = "data",
    download: bool = False,
    device: str | None = None,
    n: int | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    reporter: Reporter | None = None,
) -> pd.DataFrame:
    """The leaderboard of the benchmark's models; that of all models is written to the results folder.

    A defense whose checkpoint exists is not trained again, an example in the ledger not attacked again. n, limit and
    epochs cut the benchmark to the machine.
    """
    benchmark = load(name)
    say = reporter.say if reporter else lambda text: None
    if not benchmark.defenses and not benchmark.models:
        raise UserError(f"benchmark {name}: expected defenses or models, got neither")
    battery(benchmark.suite, benchmark.attacks)  # what is wrong is said before anything is trained
    n = benchmark.n if n is None else n
    check_n(n)
    existing = [load_model(model) for model in benchmark.models]
    sources = [load_model(source) for source in benchmark.sources]
    plans = _plans(benchmark, data_root, download, limit, epochs)
    trained = (load_model(path) for path in _trained(plans, results, device, say, reporter))
    evaluated = []
    for subject in chain(existing, trained):  # each is evaluated before the next is trained
        say(f"{subject.name}: evaluating")
        planned = plan_evaluation(
            subject,
            suite=benchmark.suite,
            attacks=benchmark.attacks,
            dataset=benchmark.dataset,
            data_root=data_root,
            download=download,
            eps=benchmark.eps,
            norm=benchmark.norm,
            device=device,
            n=n,
            sources=sources,
        )
        running.run(planned, results, reporter.evaluation() if reporter else None)
        key = planned.key(None)
        evaluated.append([key[part] for part in ("model", "dataset", "threat")])
    ranking.write(ranking.leaderboard(results), results)
    return ranking.leaderboard(
        results, only=lambda cell: [cell.key[part] for part in ("model", "dataset", "threat")] in evaluated
    )


def _trained(
    plans: Sequence[tuple[str | None, training.Plan]],
    results: Path | str,
    device: str | None,
    say: Callable[[str], None],
    reporter: Reporter | None,
) -> Iterator[Path]:
    """The checkpoints of the plans, each trained when it is asked for, where there is none."""
    latest: dict[tuple[str, int], Path] = {}
    for init, plan in plans:
        if init is not None:
            weights = checkpoint.state_dict_of(checkpoint.read(latest[init, plan.seed]), init)
            plan = replace(plan, init=weights)
        latest[plan.recipe.name, plan.seed] = path = checkpoint_path(plan, results)
        if path.is_file():
            say(f"{plan.recipe.name}: using {path}")
        else:
            say(f"{plan.recipe.name}: training for {plan.recipe.setup.epochs} epochs")
            progress = reporter.training() if reporter else None
            training.train(plan, path, device=resolve_device(device), resume=True, progress=progress)
        yield path


def _plans(
    benchmark: Benchmark, data_root: Path | str, download: bool, limit: int | None, epochs: int | None
) -> Sequence[tuple[str | None, training.Plan]]:
    """A plan for each defense and seed, with the defense whose weights it is yet to start from."""
    entries = [TrainedDefense(defense=entry) if isinstance(entry, str) else entry for entry in benchmark.defenses]
    for position, entry in enumerate(entries):
        before = [earlier.defense for earlier in entries[:position]]
        if entry.init is not None and entry.init not in before:
            raise unknown(f"defense before {entry.defense}", entry.init, before)
    return [
        (
            entry.init,
            plan_training(
                entry.defense,
                dataset=benchmark.dataset,
                data_root=data_root,
                download=download,
                eps=benchmark.eps,
                norm=benchmark.norm,
                epochs=benchmark.epochs if epochs is None else epochs,
                limit=benchmark.limit if limit is None else limit,
                settings={**benchmark.train, **entry.settings},
                seed=seed,
            ),
        )
        for seed in benchmark.seeds
        for entry in entries
    ]
