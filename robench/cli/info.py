"""The commands that tell what robench knows and what the machine has: `list`, `show` and `doctor`."""

from typing import Literal

from robench.cli.options import DATA_ROOT, RESULTS, DataRootOption, ResultsOption

Kinds = Literal["attacks", "defenses", "suites", "datasets", "models", "benchmarks", "tables", "figures"]
"""What can be listed."""

Kind = Literal["attack", "defense", "suite", "dataset", "model", "benchmark", "table", "figure"]
"""What can be shown."""


def list_(kind: Kinds) -> None:
    """Names that robench knows."""
    from robench.cli import catalogue

    for name, line in catalogue.listing(kind):
        print(f"{name:<18} {line}".rstrip())


def show(kind: Kind, name: str) -> None:
    """Everything about one of them."""
    from robench.cli import catalogue

    print(catalogue.describe(kind, name))


def doctor(data_root: DataRootOption = DATA_ROOT, results: ResultsOption = RESULTS) -> None:
    """Check this machine (versions, devices, data sets) and every file of the results folder's ledger."""
    from robench.cli.doctor import examine
    from robench.utils.text import cleaned

    for finding in examine(data_root, results):
        print(f"{'ok  ' if finding.well else 'LACK'} {finding.what}: {cleaned(finding.detail)}")
