"""What the ledger's rows say: their columns, and the names of the cells that are no attack's."""

import numpy as np
import pyarrow as pa

CLEAN = "clean"
"""The cell that holds a model's predictions on the unattacked images."""

DIAGNOSIS = "diagnosis"
"""The cell that holds, in place of rows, what was found about a model's gradients."""

UNFINISHED = ("error", "skipped")
"""The states of a row that tell nothing of the attack."""

ROW = pa.schema(
    [
        pa.field("example", pa.int64(), nullable=False),  # row in the data set
        pa.field("label", pa.int32(), nullable=False),
        pa.field("clean_prediction", pa.int32(), nullable=False),
        pa.field("fooled", pa.bool_()),  # some candidate did; true where the clean image is misclassified; null: error
        pa.field("fooled_final", pa.bool_()),  # the last iterate did; null unless the run read it
        pa.field("first_step", pa.int32()),  # steps taken before the first candidate that fooled; null: none, or clean
        pa.field("adversarial_prediction", pa.int32()),
        pa.field("margin", pa.float32()),  # max_{j != y} z_j - z_y of the candidate kept
        pa.field("distance", pa.float32()),  # of the candidate kept, in the norm of the threat
        pa.field("forwards", pa.int32(), nullable=False),
        pa.field("backwards", pa.int32(), nullable=False),
        pa.field("queries", pa.int32(), nullable=False),
        pa.field("seconds", pa.float32(), nullable=False),  # the batch's time shared among its examples
        pa.field("share_right", pa.float32()),  # of the draws of a stochastic model; null for a deterministic one
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok, invalid, unstable, error; skipped: broken already
        pa.field("message", pa.string()),  # of an error
    ]
)


def finished(table: pa.Table) -> np.ndarray:
    """Which rows [N] tell something of the attack."""
    told: np.ndarray = ~np.isin(table["status"].to_numpy(), UNFINISHED)
    return told
