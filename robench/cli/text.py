"""What is printed of a verification, of what runs will cost, and of a queue."""

import json
from collections.abc import Sequence
from dataclasses import replace

from robench.benchmarking.forecast import Forecast
from robench.benchmarking.queue import Report
from robench.evaluation.estimate import Cost
from robench.evaluation.verification import Verification
from robench.reports.formats import Format
from robench.reports.ranking import percent, percent_interval
from robench.reports.report import Output, render


def verification(found: Verification, format: Format) -> Output:
    """`json`: the counts; `csv`: a row for each example; otherwise the counts for people."""
    if format == "json":
        return json.dumps(found.to_json(), indent=1)
    if format == "csv":
        return found.rows.to_csv(index=False, lineterminator="\n").rstrip("\n")
    outside = found.n - found.valid
    notes = [
        f"over all {found.n} robust accuracy is unknown, {percent(found.at_least)} to {percent(found.at_most)} %: "
        f"{outside} x_adv {'is' if outside == 1 else 'are'} not valid, which is no evidence of robustness"
    ]
    rows = [
        ["clean accuracy [95 %]", percent_interval(found.clean)],
        ["valid x_adv", str(found.valid)],
        ["robust accuracy of these [95 %]" if outside else "robust accuracy [95 %]", percent_interval(found.robust)],
        ["fooled", str(found.fooled)],
        ["of these unstable", str(found.unstable)],
        ["not finite", str(found.not_finite)],
        ["outside the box", str(found.outside_box)],
        ["outside the ball", str(found.outside_ball)],
        ["largest distance", f"{found.largest_distance:.6g}"],
    ]
    title = f"{found.model} on {found.n} of {found.dataset}, {found.threat} (accuracies in %)"
    return render(title, ["examples", ""], rows, format, notes if outside else [])


def costs(costs: Sequence[Cost], format: Format) -> Output:
    """What an evaluation will cost at most."""
    if format == "json":
        return json.dumps([vars(cost) for cost in costs], indent=1)
    sums = (sum(getattr(cost, name) for cost in costs) for name in ("forwards", "backwards", "seconds"))
    total = Cost("total", 0, *sums)
    rows = [_cost(cost, str(cost.examples)) for cost in costs]
    open_ended = [cost.name for cost in costs if not cost.whole]
    rows.append(_cost(replace(total, whole=not open_ended), ""))
    notes = [f"{name} makes more passes than were counted, and takes longer by as much" for name in open_ended]
    header = ["attack", "examples to run", "forwards", "backwards", "seconds"]
    return render("at most, if no example is broken", header, rows, format, notes)


def _cost(cost: Cost, examples: str) -> list[str]:
    more = "" if cost.whole else "> "
    numbers = (f"{cost.forwards:,}", f"{cost.backwards:,}", f"{cost.seconds:.1f}")
    return [cost.name, examples, *(more + number for number in numbers)]


def forecasts(found: Sequence[Forecast]) -> Output:
    """What the items of a queue will take, in seconds."""
    header = ["item", "state", "a step", "training", "an attack step", "attacks, at most", "total"]
    rows = [
        [each.item, each.state, *map(_seconds, (each.step, each.training, each.attack_step, each.attacks, each.total))]
        for each in found
    ]
    totals = [_seconds(sum(getattr(each, name) for each in found)) for name in ("training", "attacks", "total")]
    rows.append(["total", "", "", totals[0], "", totals[1], totals[2]])
    return render("seconds left on this device", header, rows, "table", [], texts=2)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}" if 0 < value < 10 else f"{value:,.0f}"


def reproduction(found: Report) -> Output:
    """What became of a queue's items, and which comes next."""
    rows = [[outcome.item, outcome.state, outcome.detail] for outcome in found.outcomes]
    notes = [f"done before: {', '.join(found.before)}"] if found.before else []
    notes.append(f"next: {found.next}" if found.next else "no other item is open")
    return render("the queue", ["item", "state", ""], rows, "table", notes, texts=3)
