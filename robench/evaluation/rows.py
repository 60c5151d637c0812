"""Turns what a search found into rows of the ledger: columns of NumPy arrays, None where a value is missing."""

import numpy as np
import pyarrow as pa
from torch import Tensor

from robench.ledger.schema import ROW
from robench.search.judge import Verdicts
from robench.search.outcome import Outcome

Columns = dict[str, np.ndarray]


def untouched(ids: np.ndarray, labels: np.ndarray, clean_predictions: np.ndarray, seed: int = 0) -> Columns:
    """Rows before any attack. An example misclassified when clean is fooled already, by itself at distance 0."""
    columns: Columns = {
        field.name: np.full(len(ids), None if field.nullable else 0, dtype=object if field.nullable else np.int64)
        for field in ROW
    }
    wrong = clean_predictions != labels
    columns |= {
        "example": ids,
        "label": labels,
        "clean_prediction": clean_predictions,
        "adversarial_prediction": clean_predictions.astype(object),
        "fooled": wrong.astype(object),
        "distance": np.zeros(len(ids), dtype=object),
        "seconds": np.zeros(len(ids)),
        "seed": np.full(len(ids), seed),
        "status": np.full(len(ids), "ok", dtype=object),
    }
    return columns


def begun(
    ids: np.ndarray, labels: np.ndarray, clean_predictions: np.ndarray, shares: np.ndarray, seed: int, *, final: bool
) -> Columns:
    """As `untouched`, of an attack; `shares`: of the draws of a stochastic model that are right when clean; `final`:
    whether the last iterate is read."""
    columns = untouched(ids, labels, clean_predictions, seed)
    columns["share_right"] = shares
    if final:
        columns["fooled_final"] = columns["fooled"].copy()
    return columns


def attacked(columns: Columns, where: np.ndarray, outcome: Outcome, verdicts: Verdicts) -> None:
    """Fills in the rows at positions `where` from an attack's outcome and the judge's view of the candidates kept."""
    fooled, invalid, unstable = (array(t) for t in (outcome.fooled, outcome.invalid, verdicts.unstable))
    first_step = array(outcome.first_step).astype(object)
    first_step[~fooled] = None
    status = np.where(fooled, np.where(unstable, "unstable", "ok"), np.where(invalid, "invalid", "ok"))
    values = {
        "fooled": fooled,
        "first_step": first_step,
        "adversarial_prediction": array(verdicts.prediction),
        "margin": array(verdicts.margin),
        "distance": array(verdicts.distance),
        "forwards": array(outcome.forwards),
        "backwards": array(outcome.backwards),
        "queries": array(outcome.queries),
        "share_right": array(verdicts.share_right),
        "status": status,
    }
    for name, value in values.items():
        columns[name][where] = value
    for row, why in outcome.failures.items():
        if not fooled[row]:
            erred(columns, where[[row]], why)


def prefix(columns: Columns, whole: Columns, where: np.ndarray) -> pa.Table:
    """The rows, at positions `where`, of a run that was the beginning of another: of whose time it took the share of
    its passes."""
    passes, of_all = (each["forwards"] + each["backwards"] for each in (columns, whole))
    seconds = whole["seconds"] * passes / np.maximum(of_all, 1)
    return table({name: values[where] for name, values in {**columns, "seconds": seconds}.items()})


def erred(columns: Columns, where: np.ndarray, message: str) -> None:
    """Marks rows whose attack failed: neither fooled nor robust."""
    for name, value in {
        "fooled": None,
        "fooled_final": None,
        "adversarial_prediction": None,
        "margin": None,
        "distance": None,
        "share_right": None,
        "status": "error",
        "message": message,
    }.items():
        columns[name][where] = value


def skipped(ids: np.ndarray, labels: np.ndarray, clean_predictions: np.ndarray, seed: int = 0) -> Columns:
    """Rows of examples that an attack skipped."""
    columns = untouched(ids, labels, clean_predictions, seed)
    unknown = {name: np.full(len(ids), None, dtype=object) for name in ("fooled", "adversarial_prediction", "distance")}
    return columns | unknown | {"status": np.full(len(ids), "skipped", dtype=object)}


def table(columns: Columns) -> pa.Table:
    return pa.table([pa.array(columns[field.name], field.type, from_pandas=True) for field in ROW], schema=ROW)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
