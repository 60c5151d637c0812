"""Runs a benchmark: trains or loads its models, attacks and measures each, and writes what people read."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

import pandas as pd

from robench.benchmarking import measure
from robench.benchmarking.workspace import Workspace
from robench.evaluation.answers import told_apart
from robench.evaluation.evaluation import Evaluation, check_n
from robench.evaluation.plan import EvaluationOptions, plan_evaluation
from robench.evaluation.run import GOES_ON, EvaluationProgress
from robench.evaluation.run import run as run_evaluation
from robench.evaluation.shards import ALONE, Scale
from robench.evaluation.target import Subject, load_model
from robench.ledger.cell import Cell
from robench.ledger.schema import CLEAN, DIAGNOSIS
from robench.ledger.store import Ledger
from robench.reports import ranking
from robench.reports.evaluations import evaluation_id
from robench.reports.publishing import paths, publish, publish_benchmark
from robench.reports.report import failures
from robench.search.catalog import battery
from robench.specs.benchmark import Benchmark, Settings, load
from robench.training import interruption, loop
from robench.training.plan import Plan, checkpoint_path, plan_training
from robench.training.recipe import default_threat
from robench.utils.errors import UserError, unknown
from robench.utils.sizes import Size, parse_size
from robench.utils.text import cleaned

PICTURED = {"gradients": "pgd-20", "scores": "squares", "labels": "rays"}
"""The attack that makes the pictures on a model's page, by what the model shows of itself."""


class Reporter(Protocol):
    """Shows what a benchmark is doing."""

    def say(self, text: str) -> None: ...
    def model(self, number: int, of: int) -> None:
        """The `number`-th of so many models is begun."""

    def training(self) -> loop.TrainingProgress: ...
    def evaluation(self) -> EvaluationProgress: ...


@dataclass(frozen=True)
class Cuts:
    """What differs from the benchmark as it is written: data set or size, to fit a machine; labels or target, for
    another panel of its figure. None leaves it."""

    dataset: str | None = None
    arch: str | None = None
    eps: Size | None = None
    n: int | None = None
    limit: int | None = None
    epochs: int | None = None
    labels: int | None = None
    target_domain: str | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items() if value is not None)

    def of(self, benchmark: Benchmark) -> Benchmark:
        """The benchmark with them. On a data set for which it has no radius, radius and network are the usual ones."""
        changes = {name: value for name, value in vars(self).items() if value is not None}
        train = {**benchmark.train}
        if self.dataset not in (None, benchmark.dataset):
            changes.setdefault("eps", benchmark.also.get(str(self.dataset)))
            if self.dataset not in benchmark.also:
                train.pop("arch", None)
        train |= {name: changes.pop(name) for name in ("arch", "labels", "target_domain") if name in changes}
        if self.epochs and "epochs" in train:
            length = train.pop("epochs")
            train |= {"drops": [drop * self.epochs / length for drop in train["drops"]]} if "drops" in train else {}
        changes["train"] = train
        return benchmark.model_copy(update=changes)


UNCUT = Cuts()
"""The benchmark as it is written."""


def run(
    name: str,
    cuts: Cuts = UNCUT,
    workspace: Workspace | None = None,
    *,
    scale: Scale = ALONE,
    reporter: Reporter | None = None,
) -> pd.DataFrame:
    """The leaderboard of the benchmark's models under its attacks; that of everything in the ledger is written to the
    results folder, and the benchmark's own table or figure.

    A defense whose checkpoint exists is not trained again, an example in the ledger not attacked again.
    """
    benchmark = cuts.of(load(name))
    _check(name, benchmark)
    session = _Session(workspace or Workspace.of(), scale, reporter)
    results = session.workspace.results
    if str(cuts):
        session.say(f"cut: {cuts}")
    for kind, settings in benchmark.once.items():
        session.say(f"measuring {kind}")
        measure.measure_once(kind, settings, results, session.workspace.device)
    evaluated = []
    for asked in _evaluations(benchmark, session):
        planned, _ = told_apart(asked, Ledger(results))
        _evaluate(planned, benchmark, session)
        evaluated.append(planned)
    written, own = [], pd.DataFrame(columns=list(ranking.FIXED))
    if evaluated:  # not all was measured on no model
        publish(results)
        written, own = paths(results), ranking.leaderboard(results, only=partial(_is_in, _columns(evaluated)))
    session.say(f"wrote {', '.join(map(str, [*written, *publish_benchmark(name, own, results)]))}")
    return own


@dataclass(frozen=True)
class _Session:
    """What is the same for every step of a benchmark."""

    workspace: Workspace
    scale: Scale
    reporter: Reporter | None

    def say(self, text: str) -> None:
        if self.reporter:
            self.reporter.say(text)


def _check(name: str, benchmark: Benchmark) -> None:
    """What is wrong is said before anything is trained."""
    if not (benchmark.trained or benchmark.models or benchmark.once):
        raise UserError(f"benchmark {name}: expected defenses or models, got neither")
    if benchmark.suite or benchmark.battery:
        battery(benchmark.suite, benchmark.battery)
    for kind, settings in chain(benchmark.measure.items(), benchmark.once.items()):
        measure.check(kind, settings)
    for radius in benchmark.radii:
        parse_size(radius, 1.0)
    check_n(benchmark.n)


def _evaluations(benchmark: Benchmark, session: _Session) -> Iterator[Evaluation]:
    """What is to be evaluated; each model is trained when its evaluations are asked for."""
    plans = _plans(benchmark, session)
    trained = (load_model(path) for path in _trained(plans, session))
    read = partial(load_model, download=session.workspace.download)
    subjects = _counted(chain(map(read, benchmark.models), trained), len(benchmark.models) + len(plans), session)
    if benchmark.sources == "each":
        models = list(subjects)
        pairs = [(subject, [source]) for subject in models for source in models if source is not subject]
        yield from (planned for pair in pairs for planned in _at_all_radii(*pair, benchmark, session))
        return
    sources = [read(source) for source in benchmark.sources]
    for subject in subjects:
        yield from _at_all_radii(subject, sources, benchmark, session)


def _counted(subjects: Iterator[Subject], of: int, session: _Session) -> Iterator[Subject]:
    """The same, each announced before it is read or trained."""
    for number in range(1, of + 1):
        if session.reporter:
            session.reporter.model(number, of)
        yield next(subjects)


def _at_all_radii(
    subject: Subject, sources: Sequence[Subject], benchmark: Benchmark, session: _Session
) -> Iterator[Evaluation]:
    dataset = _evaluated_on(benchmark, subject)
    for eps in _radii(benchmark, subject, dataset):
        planned = plan_evaluation(
            subject,
            EvaluationOptions(
                suite=benchmark.suite,
                attacks=benchmark.battery,
                dataset=dataset,
                data_root=session.workspace.data_root,
                download=session.workspace.download,
                eps=eps,
                norm=benchmark.norm,
                device=session.workspace.device,
                n=benchmark.n,
                sources=sources,
            ),
        )
        yield planned if benchmark.suite or benchmark.battery else replace(planned, attacks=[])


def _evaluated_on(benchmark: Benchmark, subject: Subject) -> str:
    card = subject.card
    return card.dataset if card and "target_domain" in card.recipe.get("setup", {}) else benchmark.dataset


def _radii(benchmark: Benchmark, subject: Subject, dataset: str) -> list[Size]:
    shape = subject.card.shape if subject.card else ()
    threat = default_threat(dataset, shape).with_(benchmark.norm, benchmark.eps, shape)
    return [
        threat.eps_written if radius == "eps" else f"{parse_size(radius, threat.eps):.12g}"
        for radius in benchmark.radii
    ]


def _evaluate(planned: Evaluation, benchmark: Benchmark, session: _Session) -> None:
    session.say(f"{planned.subject.name}: evaluating at {planned.threat}")
    progress = session.reporter.evaluation() if session.reporter else None
    for failure in failures(run_evaluation(planned, session.workspace.results, progress, scale=session.scale)):
        session.say(f"{planned.subject.name}: {failure}")
    pictures: dict[str, Settings] = {"gallery": {"attack": PICTURED[planned.subject.gives]}}
    for kind, settings in {**pictures, **benchmark.measure}.items():
        session.say(f"{planned.subject.name}: measuring {kind}")
        measure.measure_model(planned, kind, settings, session.workspace.results)


def _is_in(wanted: AbstractSet[tuple[str, str]], cell: Cell) -> bool:
    return (evaluation_id(cell.key), cell.about["attack"]) in wanted


def _columns(evaluated: Sequence[Evaluation]) -> set[tuple[str, str]]:
    """The evaluations, each with the names of what fills its row."""
    return {
        (evaluation_id(planned.key(None)), cleaned(name))
        for planned in evaluated
        for name in (CLEAN, DIAGNOSIS, *(planned.about(attack)["attack"] for attack in planned.attacks))
    }


def _trained(plans: Sequence[tuple[str | None, Plan]], session: _Session) -> Iterator[Path]:
    """The checkpoints of the plans, each trained when it is asked for, where there is none."""
    latest: dict[tuple[str, int], Path] = {}
    for init, plan in plans:
        if init is not None:
            plan = plan.starting_from(latest[init, plan.seed])
        latest[plan.recipe.name, plan.seed] = path = checkpoint_path(plan, session.workspace.results)
        if path.is_file():
            loop.finished(plan, path)
            session.say(f"{plan.recipe.name}: using {path}")
        else:
            session.say(f"{plan.recipe.name}: training for {plan.recipe.setup.epochs} epochs")
            progress = session.reporter.training() if session.reporter else None
            interruption.train(
                plan, path, device=session.workspace.device, resume=True, progress=progress, goes_on=GOES_ON
            )
        yield path


def _plans(benchmark: Benchmark, session: _Session) -> Sequence[tuple[str | None, Plan]]:
    """A plan for each defense and seed, with the defense whose weights it is yet to start from."""
    entries = benchmark.trained
    for position, entry in enumerate(entries):
        before = [earlier.defense for earlier in entries[:position]]
        if entry.init is not None and entry.init not in before:
            raise unknown(f"defense before {entry.defense}", entry.init, before)
    return [
        (
            entry.init,
            plan_training(
                entry.defense,
                dataset=entry.dataset or benchmark.dataset,
                data_root=session.workspace.data_root,
                download=session.workspace.download,
                eps=benchmark.eps,
                norm=benchmark.norm,
                epochs=benchmark.epochs,
                limit=benchmark.limit,
                settings={**benchmark.train, **entry.settings},
                seed=seed,
            ),
        )
        for seed in benchmark.seeds
        for entry in entries
    ]
