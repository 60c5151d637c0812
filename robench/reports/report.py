"""An evaluation, or a comparison of two, as text or a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import floor

from robench.ledger.summary import Probes, Summary
from robench.reports.comparison import Comparison
from robench.reports.escaping import csv_lines, markdown, pipe
from robench.reports.formats import Format
from robench.reports.ranking import estimate, percent, percent_interval
from robench.reports.sheet import Sheet

Output = str | list[Sheet]
"""Text to print as it is, or tables for a console."""

NOTHING = {"", "-", "0", "0.0"}
"""What a column may hold that tells nothing."""


def evaluation(summary: Summary, format: Format) -> Output:
    """`json`: the object of `Summary.to_json`; otherwise a row for each of clean, the attacks and the worst case."""
    if format == "json":
        return json.dumps(summary.to_json(), indent=1)
    finals = any(attack.accuracy_final is not None for attack in summary.attacks.values())
    last = ["last iterate"] if finals else []
    header = ["attack", "accuracy [95 %]", *last, "run on", "kills", "unique", "invalid", "errors", "passes", "seconds"]
    rows = [["clean", _with_spread(percent_interval(summary.clean), summary.spread)]]
    for name, attack in summary.attacks.items():
        passes = f"{attack.forwards + attack.backwards:,}"
        unique = "" if attack.unique is None else attack.unique
        counts = map(str, (attack.n_run, attack.kills, unique, attack.invalid, attack.errors))
        last = [percent(attack.accuracy_final)] if finals else []
        accuracy = _with_spread(estimate(attack.accuracy, attack.bounds), attack.spread)
        rows.append([name, accuracy, *last, *counts, passes, f"{attack.seconds:.1f}"])
    rows.append(["worst case", estimate(summary.worst_case, summary.worst_case_bounds)])
    if worst := summary.worst_class:
        rows.append([f"worst class ({worst.label})", percent_interval(worst.worst_case), *last, str(worst.n)])
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    notes = failures(summary) + _diagnosed(summary.diagnosis)
    notes += [f"{name} was skipped: {reason}" for name, reason in summary.skipped.items()]
    notes += [f"{summary.verdict}: {reason}" for reason in summary.verdict.reasons]
    title = f"{summary.model} on {summary.n} of {summary.dataset}, {summary.threat} (accuracies in %)"
    if format != "csv":
        header, *rows = _telling([header, *rows])
    return render(title, header, rows, format, notes, stressed="worst case")


def _telling(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The header and the lines under it, without the columns that tell nothing."""
    header, *rows = lines
    kept = [column for column in range(len(header)) if not {row[column] for row in rows} <= NOTHING]
    return [[line[column] for column in kept] for line in lines]


def failures(summary: Summary) -> list[str]:
    """A sentence for each attack that ended in an error."""
    return [
        f"{name} ended in an error on {attack.errors} of {summary.n} examples: {attack.message}"
        for name, attack in summary.attacks.items()
        if attack.errors
    ]


def _diagnosed(found: Probes | None) -> list[str]:
    """What of the diagnosis's own attack is in the worst case, and what a face of the box hides."""
    notes = []
    if found and found.kills:
        notes.append(f"the PGD of the diagnosis broke {found.kills} that every attack left; the worst case counts them")
    if found and found.faces:
        notes.append(f"{100 * found.faces:.0f} % of the pixels at 0 and 1 have a gradient only just inside the box")
    return notes


def comparisons(found: Sequence[Comparison]) -> str:
    """One JSON array, with the counts, and accuracies as fractions [value, low, high]."""
    return json.dumps([asdict(each) for each in found], indent=1)


def comparison(found: Comparison, format: Format) -> Output:
    """A row for each attack that both models met."""
    header = ["", "n", found.first, found.second, "only the first right", "only the second", "McNemar's p"]
    rows = []
    for each in found.contests:
        counts = [str(each.only_first), str(each.only_second), f"{each.p:.2g}"]
        name = f"{each.name}, unknown on {each.unknown} more" if each.unknown else each.name
        rows.append([name, str(each.n), percent_interval(each.first), percent_interval(each.second), *counts])
    title = f"{found.first} and {found.second} on {found.dataset}, {found.threat} (accuracies in %)"
    return render(title, header, rows, format, [])


def _with_spread(accuracy: str, spread: float | None) -> str:
    """For a stochastic model, an accuracy with its standard deviation over draws."""
    return accuracy + (f" ± {percent(spread)}" if spread is not None else "")


def gate_failures(summary: Summary, fail_under: float) -> list[str]:
    """Why the gate fails: the lower end of the worst case, or of what that is at least where it is unknown, does not
    reach it, or the verdict is `unreliable`. Empty where it passes."""
    worst, unknown = summary.worst_case, summary.worst_case_bounds
    lowest = unknown.least if unknown else worst
    failures = []
    if lowest is None:
        failures.append("the worst case is unknown")
    elif lowest.low < fail_under:
        end = floor(1000 * lowest.low + 1e-9) / 10  # rounded up it may not be below
        failures.append(f"the interval's lower end {end:.1f} % is below {100 * fail_under:g} %")
    if summary.verdict.reliable is False:
        failures.append("the verdict is unreliable")
    return failures


def render(
    title: str,
    header: list[str],
    rows: list[list[str]],
    format: Format,
    notes: list[str],
    texts: int = 1,
    stressed: str | None = None,
) -> Output:
    """`texts`: how many of the first columns hold words; `stressed`: the first cell of the line that counts most."""
    if format == "csv":
        return csv_lines([header, *rows]).rstrip("\n")
    if format == "md":
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
        return "\n".join([*map(pipe, lines), *(f"\n{markdown(note)}" for note in notes)])
    return [Sheet(title, header, rows, notes, range(texts), stressed=stressed)]
