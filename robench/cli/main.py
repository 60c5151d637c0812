"""The command line: parse, call one function, print. Heavy imports wait inside the commands."""

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from robench.utils.containment import ForeignExit, contained
from robench.utils.errors import Notice, UserError

app = typer.Typer(
    name="robench",
    help="Train, attack, verify and rank adversarially robust image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


class LeaderboardFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    md = "md"
    latex = "latex"
    html = "html"


class TableFormat(StrEnum):
    md = "md"
    csv = "csv"
    latex = "latex"
    html = "html"


class Mode(StrEnum):
    columns = "columns"
    worst_case = "worst-case"


class Protocol(StrEnum):
    adaptive = "adaptive"
    static = "static"


class EvaluationPrecision(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Kind(StrEnum):
    attacks = "attacks"
    defenses = "defenses"
    suites = "suites"
    datasets = "datasets"
    models = "models"
    benchmarks = "benchmarks"
    tables = "tables"
    figures = "figures"


class Thing(StrEnum):
    attack = "attack"
    defense = "defense"
    suite = "suite"
    dataset = "dataset"
    model = "model"
    benchmark = "benchmark"
    table = "table"
    figure = "figure"


Results = Annotated[Path, typer.Option(help="The folder of results.")]
DataRoot = Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch a missing torchvision data set.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda where there is one.")]
Eps = Annotated[str | None, typer.Option(help="Radius in units of [0, 1]: 8/255 or a number.")]
Norm = Annotated[str | None, typer.Option(help="linf or l2.")]
Workers = Annotated[int, typer.Option(help="Processes that share the examples of each attack.")]
Arch = Annotated[str | None, typer.Option(help="The architecture of a bare state dict, or of the model to train.")]
Labels = Annotated[int | None, typer.Option(help="So many images keep their label, as many of each class.")]
Target = Annotated[str | None, typer.Option(help="The data set whose domain to adapt to, without its labels.")]


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A benchmark's name, or a .yaml file.")],
    data_root: DataRoot = Path("data"),
    download: Download = False,
    results: Results = Path("results"),
    device: Device = None,
    dataset: Annotated[str | None, typer.Option(help="Run it on another data set, with its usual radius.")] = None,
    arch: Annotated[str | None, typer.Option(help="The architecture to train.")] = None,
    eps: Eps = None,
    n: Annotated[int | None, typer.Option(help="Evaluate on the first N examples.")] = None,
    limit: Annotated[int | None, typer.Option(help="Train on the first N images.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Train for this many epochs.")] = None,
    workers: Workers = 1,
    labels: Labels = None,
    target: Target = None,
) -> None:
    """Train or load every defense, evaluate, rank: the main job."""
    _refuse_launcher()
    from robench.benchmarking.run import run
    from robench.cli.console import ConsoleReporter

    with _only_results():
        frame = run(
            name,
            results=results,
            data_root=data_root,
            download=download,
            device=device,
            dataset=dataset,
            arch=arch,
            eps=eps,
            n=n,
            limit=limit,
            epochs=epochs,
            workers=workers,
            labels=labels,
            target=target,
            reporter=ConsoleReporter(),
        )
    if len(frame):
        _print_leaderboard(frame, LeaderboardFormat.table)
    if (frame["at_least"] < frame["at_most"]).any():  # errors leave a worst case unknown, as the notes say
        raise typer.Exit(1)


@app.command()
def reproduce(
    queue: Annotated[str, typer.Argument(help="A queue's name, or a .yaml file.")] = "reproduce",
    budget: Annotated[str | None, typer.Option(help="End within this time, such as 20m, 90s or 1h30m.")] = None,
    only: Annotated[str, typer.Option(help="The items whose names match, such as 'mnist-*'.")] = "*",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print each item's state and time, and run none.")] = False,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    results: Results = Path("results"),
    device: Device = None,
) -> None:
    """Work through a queue of trainings and evaluations, from the first open item on."""
    _refuse_launcher()
    from robench.utils.deadline import Deadline

    deadline = Deadline.within(budget) if budget else Deadline()  # the imports below are within it
    from robench.benchmarking.forecast import forecast
    from robench.benchmarking.queue import run
    from robench.cli import text
    from robench.cli.console import ConsoleReporter, stderr

    where: dict[str, Any] = {
        "only": only,
        "results": results,
        "data_root": data_root,
        "download": download,
        "device": device,
    }
    if dry_run:
        with _only_results():
            foreseen = forecast(queue, **where, say=stderr.print)
        _emit(text.forecasts(foreseen))
        return
    with _only_results():
        found = run(queue, **where, deadline=deadline, reporter=ConsoleReporter())
    _emit(text.reproduction(found))
    if found.failed:
        raise typer.Exit(1)


@app.command()
def train(
    defense: Annotated[str, typer.Option(help="A recipe's name, or a .py file with a Defense.")],
    dataset: Annotated[
        str, typer.Option(help="A data set's name, parquet:DIR, imagefolder:DIR or npz:FILE.")
    ] = "digits",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    arch: Arch = None,
    eps: Eps = None,
    norm: Norm = None,
    epochs: Annotated[int | None, typer.Option(help="Length; drops of the learning rate scale with it.")] = None,
    limit: Annotated[int | None, typer.Option(help="Train on the first N images only.")] = None,
    labels: Labels = None,
    target: Target = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, of the defense or the training.")] = None,
    init: Annotated[Path | None, typer.Option(help="A checkpoint to start from.")] = None,
    out: Annotated[Path | None, typer.Option(help="The checkpoint to write.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    seed: int = 0,
    device: Device = None,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    tensorboard: Annotated[Path | None, typer.Option(help="A folder for TensorBoard's events.")] = None,
    results: Results = Path("results"),
) -> None:
    """Train one defense by its recipe."""
    from robench.cli.console import TrainingProgress, stderr
    from robench.evaluation.plan import checkpoint_path, plan_training, resolve_device
    from robench.training import loop
    from robench.training.distributed import is_main, leave
    from robench.utils.settings import assignment

    stderr.quiet = not is_main()
    with _only_results():
        plan = plan_training(
            defense,
            dataset=dataset,
            data_root=data_root,
            download=download,
            arch=arch,
            eps=eps,
            norm=norm,
            epochs=epochs,
            limit=limit,
            settings=dict(assignment(text) for text in set_ or []),
            init=init,
            seed=seed,
            precision=precision,
            labels=labels,
            target=target,
        )
    path = out or checkpoint_path(plan, results)
    resolved = resolve_device(device)
    described = plan.recipe.describe()
    stderr.print(f"{plan.recipe.name} on {dataset} (settings for {plan.recipe.settings_of}), seed {seed}, {resolved}")
    for block in ("settings", "setup"):
        stderr.print(f"  {block}: " + ", ".join(f"{key}={value}" for key, value in described[block].items()))
    progress: loop.Progress = TrainingProgress()
    if tensorboard is not None:
        from robench.training.tensorboard import TensorBoardProgress

        progress = TensorBoardProgress(tensorboard, progress)
    with _only_results():
        card = loop.train(plan, path, device=resolved, resume=resume, progress=progress)
    best = card.metrics["best"]
    held_out = f": clean {best['clean']:.3f}, PGD-10 {best['robust']:.3f} on held-out images" if "clean" in best else ""
    stderr.print(f"kept epoch {best['epoch']}{held_out}")
    if is_main():
        print(path)
    leave()


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Option(help="A checkpoint, or FACTORY.py:function (runs that code).")],
    suite: Annotated[str | None, typer.Option(help="A named list of attacks.")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="An attack's name, or FILE.py:key=value,...")] = None,
    dataset: Annotated[str | None, typer.Option(help="By default the checkpoint's, else digits.")] = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    eps: Eps = None,
    norm: Norm = None,
    arch: Arch = None,
    mean: Annotated[str | None, typer.Option(help="Of each channel, for a bare state dict: 0.49,0.48,0.45.")] = None,
    std: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    n: Annotated[int | None, typer.Option(help="The first N examples.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="A model to transfer attacks from: a checkpoint, or 'FILE;arch=NAME;mean=...;std=...'."),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Every attack on every example, or only on survivors; by default the suite's.")
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="Whether the attacker sees a test-time transform, or attacks without it.")
    ] = Protocol.adaptive,
    draws: Annotated[
        int | None, typer.Option(help="Passes whose mean an attack on a stochastic model sees, by default 10.")
    ] = None,
    seed: int = 0,
    device: Device = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples attacked together.")] = None,
    precision: Annotated[
        EvaluationPrecision, typer.Option(help="Of gradients; what they find is judged in float32.")
    ] = EvaluationPrecision.auto,
    fail_under: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit 1 unless the worst case's lower end reaches this.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print passes and time, and attack nothing.")] = False,
    save_adversarial: Annotated[Path | None, typer.Option(help="A folder for x_adv, an .npz for each attack.")] = None,
    workers: Workers = 1,
    executor: Annotated[
        str | None, typer.Option(help="What runs the workers: processes, or ray (on the cluster at RAY_ADDRESS).")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="i/k: only the i-th of k parts of the examples, into a shared results folder.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Of what goes to standard output.")] = Format.table,
    results: Results = Path("results"),
) -> None:
    """Attack a model with a battery and report its worst case."""
    _refuse_launcher()
    from robench.cli import text
    from robench.cli.console import EvaluationProgress, stderr
    from robench.evaluation.plan import plan_evaluation
    from robench.evaluation.run import run
    from robench.evaluation.shards import Scale
    from robench.reports import report

    if fail_under is not None and math.isnan(fail_under):
        raise UserError("expected --fail-under from 0 to 1, got nan")
    scale = Scale.of(workers, executor, part)
    if part and fail_under is not None:
        raise UserError(f"part {part} is not all that --fail-under judges; give it in a run of the whole")
    with _only_results():
        planned = plan_evaluation(
            model,
            suite=suite,
            attacks=attack or [],
            dataset=dataset,
            data_root=data_root,
            download=download,
            eps=eps,
            norm=norm,
            arch=arch,
            mean=_numbers(mean),
            std=_numbers(std),
            seed=seed,
            device=device,
            batch_size=batch_size,
            precision=precision.value,
            n=n,
            mode=mode.value if mode else None,
            sources=source or [],
            protocol=protocol.value,
            draws=draws,
        )
    for notice in planned.subject.notices:
        stderr.print(notice)
    stderr.print(
        f"{planned.subject.name} ({planned.subject.arch}) on {len(planned.wanted)} of {planned.split.name}, "
        f"{planned.threat}, {', '.join(configured.name for configured in planned.attacks)}, {planned.device}"
    )
    if dry_run:
        from robench.evaluation.estimate import estimate
        from robench.ledger.store import Ledger

        with _only_results():
            foreseen = estimate(planned, Ledger(results))
        _emit(text.costs(foreseen, format))
        return
    with _only_results():
        summary = run(planned, results, EvaluationProgress(), save_adversarial, scale)
    if part:
        ran, everything = scale.ids(planned.wanted, planned.batch_size), len(planned.wanted)
        rest = "" if summary.n == everything else "; the other parts have the rest"
        stderr.print(
            f"part {part}, examples {ran.start} to {ran.stop - 1}, is done: under every attack the ledger has "
            f"{summary.n} of {everything}{rest}"
        )
    _emit(report.evaluation(summary, format))
    failures = report.failures(summary)
    for sentence in failures:
        stderr.print(sentence)
    if fail_under is not None and not report.passes(summary, fail_under):
        stderr.print(f"the gate failed: {report.gate(summary, fail_under)}")
        raise typer.Exit(1)
    if failures:
        raise typer.Exit(1)


@app.command()
def verify(
    model: Annotated[str, typer.Option(help="A checkpoint, or FACTORY.py:function (runs that code).")],
    adversarial: Annotated[Path, typer.Option(help="An .npz with x_adv, and x and y or ids (rows of the data set).")],
    dataset: Annotated[str | None, typer.Option(help="By default the checkpoint's, else digits.")] = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    eps: Eps = None,
    norm: Norm = None,
    arch: Arch = None,
    mean: Annotated[str | None, typer.Option(help="Of each channel, for a bare state dict: 0.49,0.48,0.45.")] = None,
    std: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    device: Device = None,
    eight_bit: Annotated[bool, typer.Option("--eight-bit", help="Round x_adv to uint8 and back first.")] = False,
    format: Annotated[Format, typer.Option(help="Of what goes to standard output; csv has a row an example.")] = (
        Format.table
    ),
) -> None:
    """Judge adversarial examples made elsewhere."""
    from robench.cli import text
    from robench.cli.console import stderr
    from robench.evaluation.plan import plan_verification

    with _only_results():
        planned = plan_verification(
            model,
            adversarial,
            dataset=dataset,
            data_root=data_root,
            download=download,
            eps=eps,
            norm=norm,
            arch=arch,
            mean=_numbers(mean),
            std=_numbers(std),
            device=device,
            eight_bit=eight_bit,
        )
        found = planned()
    stderr.print(f"{found.model} on {found.n} of {found.dataset}, {found.threat}")
    _emit(text.verification(found, format))


@app.command()
def leaderboard(
    format: Annotated[
        LeaderboardFormat, typer.Option(help="Of what goes to standard output.")
    ] = LeaderboardFormat.table,
    over_seeds: Annotated[
        bool,
        typer.Option("--over-seeds", help="A row for all seeds of a recipe (md, csv or json)."),
    ] = False,
    results: Results = Path("results"),
) -> None:
    """Rank every model in the ledger; leaderboard.html in the results folder has a view of each."""
    from robench.reports import page, publishing

    if over_seeds and format in (LeaderboardFormat.latex, LeaderboardFormat.html):
        raise UserError(f"expected --over-seeds as table, md, csv or json, got {format.value}")
    if format is LeaderboardFormat.html:
        print(page.write(page.survey(results), results), end="")
        return
    frame = publishing.publish(results)
    if over_seeds:
        _print_means(frame, format)
    else:
        _print_leaderboard(frame, format)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A model's name in the ledger, or the beginning of it.")],
    second: Annotated[str, typer.Argument(help="Another's.")],
    format: Annotated[Format, typer.Option(help="Of what goes to standard output.")] = Format.table,
    results: Results = Path("results"),
) -> None:
    """Two models on the examples they share, with McNemar's test."""
    from robench.reports import report
    from robench.reports.comparison import compare

    found = compare(first, second, results)
    if format is Format.json:
        _emit(report.comparisons(found))
        return
    for each in found:
        _emit(report.comparison(each, format))


@app.command()
def table(
    id: Annotated[str, typer.Argument(help="A table's id; robench list tables names them.")],
    format: Annotated[TableFormat, typer.Option(help="Of what goes to standard output.")] = TableFormat.md,
    results: Results = Path("results"),
) -> None:
    """A paper's table, the measured beside the published."""
    from robench.reports import tables, typesetting

    print(typesetting.typeset(tables.build(id, results), format.value))


@app.command()
def figure(
    id: Annotated[str, typer.Argument(help="A figure's id; robench list figures names them.")],
    results: Results = Path("results"),
) -> None:
    """Draw a paper's figure from what was measured: PNG, SVG and its data as CSV."""
    from robench.reports import drawing

    drawn = drawing.draw(id, results)
    print(drawn.caption)
    if drawn.canvas is not None:
        print("\n".join(str(path) for path in drawing.write(drawn, results, id)))


@app.command("list")
def list_(kind: Kind) -> None:
    """Names that robench knows."""
    from robench.cli import catalogue

    for name, line in catalogue.listing(kind.value):
        print(f"{name:<18} {line}".rstrip())


@app.command()
def show(kind: Thing, name: str) -> None:
    """Everything about one of them."""
    from robench.cli import catalogue

    print(catalogue.describe(kind.value, name))


@app.command()
def doctor(data_root: DataRoot = Path("data"), results: Results = Path("results")) -> None:
    """Check this machine: versions, devices, data sets, the results folder."""
    from robench.cli.doctor import examine

    for finding in examine(data_root, results):
        print(f"{'ok  ' if finding.well else 'LACK'} {finding.what}: {finding.detail}")


def _print_leaderboard(frame: Any, format: LeaderboardFormat) -> None:
    from robench.reports import ranking

    if format is LeaderboardFormat.table:
        _emit(ranking.to_rich(frame))
    elif format is LeaderboardFormat.json:
        print(json.dumps(json.loads(frame.to_json(orient="records")), indent=1))
    else:
        written = {"md": ranking.to_markdown, "csv": ranking.to_csv, "latex": ranking.to_latex}
        print(written[format.value](frame), end="")


def _print_means(frame: Any, format: LeaderboardFormat) -> None:
    from robench.reports import ranking
    from robench.reports.seeds import over_seeds, to_markdown

    means = over_seeds(frame)
    if format is LeaderboardFormat.json:
        print(means.to_json(orient="records", indent=1), end="")
    else:
        print(ranking.to_csv(means) if format is LeaderboardFormat.csv else to_markdown(means), end="")


def _emit(output: Any) -> None:
    """Text to standard output as it is; rich tables at full width where it is no terminal."""
    from rich.console import Console

    if isinstance(output, str):
        print(output)
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for table in output:
        console.print(table)


@contextmanager
def _only_results() -> Iterator[None]:
    """Standard output is for what a command has found: whatever is printed meanwhile, by other people's code or by a
    process that it starts, goes to standard error; and a request to exit is no end of the command."""
    sys.stdout.flush()
    results, sys.stdout = sys.stdout, sys.stderr
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contained("code that the command ran"):
            yield
    except ForeignExit as error:
        raise UserError(str(error)) from None
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        sys.stdout = results


def _refuse_launcher() -> None:
    """Each process of a launcher would do the whole of an evaluation."""
    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "a launcher such as torchrun shares a training, not an evaluation; start this without it, and share the "
            "examples with --workers or --part i/k"
        )


def _numbers(text: str | None) -> list[float] | None:
    from robench.evaluation.target import numbers

    return None if text is None else numbers(text)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    ours = category.__module__.startswith("robench")
    text = f"robench: {message}\n" if ours else warnings.formatwarning(message, category, filename, lineno)
    sys.stderr.write(text)


def main() -> None:
    """The entry point: a user's mistake is one sentence and exit code 2, never a traceback, and a warning of ours one
    line."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", Notice)
    try:
        app()
    except UserError as error:
        print(f"robench: {error}", file=sys.stderr)
        sys.exit(2)
