"""What becomes of the examples that an attack has not come to in its time: errors, which another run tries again."""

import numpy as np
import pandas as pd
import pyarrow as pa

from robench.evaluation import rows
from robench.evaluation.evaluation import Evaluation
from robench.evaluation.shards import Scale, Unit
from robench.search.attack import Attack


def note(whole: Unit, evaluation: Evaluation, attack: Attack, scale: Scale) -> None:
    """Adds their rows, and of those that would have been skipped."""
    final = evaluation.readings_of(attack) == "final"
    for unit in whole.cut(scale.workers):
        run, skip = unit.lacking()
        clean = unit.clean.rows(unit.ids).set_index("example")
        shares = clean.loc[run, "share_right"].to_numpy(dtype=object)
        late = rows.begun(run, *_labelled(clean, run), shares, evaluation.seed, final=final)
        rows.erred(late, np.flatnonzero(late["fooled"] == False), why(scale))  # noqa: E712
        skipped = rows.skipped(skip, *_labelled(clean, skip), evaluation.seed)
        unit.cell.append(pa.concat_tables([rows.table(late), rows.table(skipped)]))


def why(scale: Scale) -> str:
    return f"it has not ended within {scale.timeout}, its timeout"


def _labelled(clean: pd.DataFrame, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels and the clean predictions of these examples, each [N]."""
    labels, predictions = (clean.loc[ids, name].to_numpy(dtype=np.int64) for name in ("label", "clean_prediction"))
    return labels, predictions
