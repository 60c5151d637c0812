"""The commands that take many models: `bench` runs a benchmark, `reproduce` a queue."""

from typing import Annotated

import typer

from robench.cli.evaluate import refuse_launcher
from robench.cli.options import (
    DATA_ROOT,
    RESULTS,
    DataRootOption,
    DeviceOption,
    DownloadOption,
    EpsOption,
    LabelsOption,
    ResultsOption,
    TargetOption,
    TimeoutOption,
    WorkersOption,
)
from robench.cli.output import emit, only_results
from robench.cli.results import print_leaderboard


def bench(
    name: Annotated[str, typer.Argument(help="A benchmark's name, or a .yaml file.")],
    data_root: DataRootOption = DATA_ROOT,
    download: DownloadOption = False,
    results: ResultsOption = RESULTS,
    device: DeviceOption = None,
    dataset: Annotated[str | None, typer.Option(help="Run it on another data set, with its usual radius.")] = None,
    arch: Annotated[str | None, typer.Option(help="The architecture to train.")] = None,
    eps: EpsOption = None,
    n: Annotated[int | None, typer.Option(help="Evaluate on the first N examples.")] = None,
    limit: Annotated[int | None, typer.Option(help="Train on the first N images.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Train for this many epochs.")] = None,
    workers: WorkersOption = 1,
    timeout: TimeoutOption = None,
    labels: LabelsOption = None,
    target: TargetOption = None,
) -> None:
    """Train or load every defense, evaluate, rank: the main job."""
    refuse_launcher()
    from robench.cli import words

    words.check_benchmark(name)
    words.check(dataset=dataset, arch=arch, eps=eps, device=device)
    from robench.cli.console import ConsoleReporter, working

    with working("loading torch"):
        from robench.benchmarking.run import Cuts, run
        from robench.benchmarking.workspace import Workspace
        from robench.evaluation.shards import Scale
    with working("working"), only_results():
        frame = run(
            name,
            Cuts(dataset, arch, eps, n, limit, epochs, labels, target),
            Workspace.of(results, data_root, download, device),
            scale=Scale.of(workers, timeout=timeout),
            reporter=ConsoleReporter(),
        )
    if len(frame):
        print_leaderboard(frame, "table")
    if (frame["at_least"] < frame["at_most"]).any():  # errors leave a worst case unknown, as the notes say
        raise typer.Exit(1)


def reproduce(
    queue: Annotated[str, typer.Argument(help="A queue's name, or a .yaml file.")] = "reproduce",
    budget: Annotated[str | None, typer.Option(help="End within this time, such as 20m, 90s or 1h30m.")] = None,
    only: Annotated[str, typer.Option(help="The items whose names match, such as 'mnist-*'.")] = "*",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print each item's state and time, and run none.")] = False,
    data_root: DataRootOption = DATA_ROOT,
    download: DownloadOption = False,
    results: ResultsOption = RESULTS,
    device: DeviceOption = None,
) -> None:
    """Work through a queue of trainings and evaluations, from the first open item on."""
    refuse_launcher()
    from robench.cli import words
    from robench.utils.deadline import Deadline

    words.check(device=device)
    words.check_queue(queue, only)
    deadline = Deadline.within(budget) if budget else Deadline()  # the imports below are within it
    from robench.cli.console import ConsoleReporter, stderr, working

    with working("loading torch"):
        from robench.benchmarking.forecast import forecast
        from robench.benchmarking.queue import run
        from robench.benchmarking.workspace import Workspace
        from robench.cli import text
    workspace = Workspace.of(results, data_root, download, device)
    if dry_run:
        with working("timing"), only_results():
            foreseen = forecast(queue, workspace, only=only, say=stderr.print)
        emit(text.forecasts(foreseen))
        return
    with working("working"), only_results():
        found = run(queue, workspace, only=only, deadline=deadline, reporter=ConsoleReporter())
    emit(text.reproduction(found))
    if found.failed:
        raise typer.Exit(1)
