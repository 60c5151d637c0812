"""Trains and evaluates many models."""

from pathlib import Path

import pandas as pd

from robench.benchmarking.queue import Report
from robench.benchmarking.queue import run as run_queue
from robench.benchmarking.run import Cuts, Reporter
from robench.benchmarking.run import run as run_benchmark
from robench.benchmarking.workspace import Workspace
from robench.evaluation.shards import Scale
from robench.utils.arguments import checked
from robench.utils.deadline import Deadline
from robench.utils.sizes import Size


@checked
def bench(
    name: str,
    *,
    data_root: Path | str = "data",
    download: bool = False,
    results: Path | str = "results",
    device: str | None = None,
    dataset: str | None = None,
    arch: str | None = None,
    eps: Size | None = None,
    n: int | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    workers: int = 1,
    timeout: str | float | None = None,
    labels: int | None = None,
    target: str | None = None,
    reporter: Reporter | None = None,
) -> pd.DataFrame:
    """Trains or loads every model of a benchmark, evaluates them, writes the leaderboard, and returns its rows of it.

    A model whose checkpoint exists is not trained again, an example in the ledger not attacked again. The columns are
    those of `robench.reports.ranking.frame_of`; accuracies are fractions.

    name: a benchmark's name, or a .yaml file.
    dataset, arch, eps, n, limit, epochs: cut it to a machine: another data set, with its usual radius, or another
        radius; the architecture to train; evaluate on the first n examples; train on the first `limit` images, for so
        many epochs.
    labels, target: as in `train`, for another panel of its figure.
    workers: processes that share the examples of each attack.
    timeout: of each attack, as in `evaluate`.
    reporter: is told how it goes.

    The other keywords are those of `evaluate`. Raises UserError where the benchmark is wrong, before anything is
    trained.
    """
    cuts = Cuts(dataset, arch, eps, n, limit, epochs, labels, target)
    workspace = Workspace.of(results, data_root, download, device)
    return run_benchmark(name, cuts, workspace, scale=Scale.of(workers, timeout=timeout), reporter=reporter)


@checked
def reproduce(
    queue: str = "reproduce",
    *,
    budget: str | None = None,
    only: str = "*",
    data_root: Path | str = "data",
    download: bool = False,
    results: Path | str = "results",
    device: str | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Works through a queue of trainings and evaluations within a time, and tells what became of each.

    What is unfinished is taken up by the next call; `robench.benchmarking.forecast` tells the time beforehand.

    queue: a queue's name, or a .yaml file.
    budget: a time such as "20m", "90s" or "1h30m".
    only: the items whose names match, such as "mnist-*".
    reporter: is told how it goes.

    The other keywords are those of `evaluate`. Raises UserError where the queue is wrong, before anything is trained.
    """
    deadline = Deadline.within(budget) if budget else None
    workspace = Workspace.of(results, data_root, download, device)
    return run_queue(queue, workspace, only=only, deadline=deadline, reporter=reporter)
