"""Judges adversarial examples that someone else made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robench.behaviour import Behaviour
from robench.classifier import Classifier
from robench.data import Split
from robench.errors import UserError
from robench.judge import VOTES, Judge
from robench.stats import Interval, wilson
from robench.subject import Subject
from robench.threat import ThreatModel


@dataclass(frozen=True)
class Examples:
    """x_adv [N, C, H, W], float32, made from the images of `originals`; `ids` [N] name them for people."""

    x_adv: Tensor
    originals: Split
    ids: np.ndarray


@dataclass(frozen=True)
class Verification:
    """What the judge found. `robust` is over all examples: right when clean, and not fooled by a valid x_adv."""

    model: str
    dataset: str
    threat: str
    n: int
    clean: Interval
    robust: Interval
    fooled: int
    unstable: int
    not_finite: int
    outside_box: int
    outside_ball: int
    largest_distance: float
    rows: pd.DataFrame
    """an example each: example, label, clean_prediction, prediction, valid, fooled, unstable, margin, distance"""

    def to_json(self) -> dict[str, Any]:
        fields = {name: value for name, value in asdict(self).items() if name != "rows"}
        distance = self.largest_distance if np.isfinite(self.largest_distance) else None
        intervals = {name: getattr(self, name)._asdict() for name in ("clean", "robust")}
        return {**fields, **intervals, "largest_distance": distance}


def read(path: Path | str, split: Split | None) -> Examples:
    """From an .npz file: x_adv, floats in [0, 1] or uint8; with x and y, or with ids, their rows in `split`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ("x_adv", "x", "y", "ids") if key in archive}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except Exception as error:  # NumPy lets zipfile's, zlib's and its own errors through
        raise UserError(f"{path} is not a readable archive of plain arrays ({error})") from None
    if "x_adv" not in arrays or not ({"x", "y"} <= set(arrays) or "ids" in arrays):
        raise UserError(f"expected x_adv, and x and y or ids, in {path}, got {', '.join(arrays) or 'none of them'}")
    return examples(arrays, split, str(path))


def examples(arrays: Mapping[str, np.ndarray], split: Split | None, where: str) -> Examples:
    """Checks the arrays; those outside [0, 1] or not finite are for the judge to find."""
    x_adv = arrays["x_adv"]
    if {"x", "y"} <= set(arrays):
        originals = Split(where, torch.from_numpy(_scaled(arrays["x"], where)), _integers(arrays["y"], where))
        ids = arrays.get("ids", np.arange(len(originals)))
        if ids.shape != (len(originals),):
            raise UserError(f"{where}: expected ids of shape ({len(originals)},), got {ids.shape}")
    else:
        assert split is not None
        ids = _integers(arrays["ids"], where).numpy()
        if len(ids) and not (ids.min() >= 0 and ids.max() < len(split)):
            raise UserError(f"{where}: expected ids from 0 to {len(split) - 1}, got {ids.min()} to {ids.max()}")
        originals = split.take(ids)
    if x_adv.shape != originals.images.shape or len(ids) != len(x_adv):
        raise UserError(
            f"{where}: expected x_adv of shape {tuple(originals.images.shape)}, as the images, got {x_adv.shape}"
        )
    return Examples(torch.from_numpy(_scaled(x_adv, where)), originals, ids)


def verify(
    subject: Subject,
    given: Examples,
    threat: ThreatModel,
    *,
    behaviour: Behaviour,
    device: str = "cpu",
    eight_bit: bool = False,
) -> Verification:
    """The judge's view of examples, as they are or, with `eight_bit`, after rounding to uint8 and back."""
    judge = Judge(Classifier(subject.model, device), threat, VOTES if behaviour.stochastic else 1)
    originals, x_adv = given.originals.to(torch.device(device)), given.x_adv.to(device)
    if eight_bit:
        x_adv = (x_adv.clamp(threat.low, threat.high) * 255).round() / 255
    x, y = originals.floats(slice(None)), originals.labels
    finite = x_adv.flatten(1).isfinite().all(1)
    clean, found = judge(x, x, y), judge(x_adv.where(finite.view(-1, 1, 1, 1), x), x, y)
    valid = found.valid & finite
    boxed = threat.in_box(x_adv)
    right = clean.prediction == y
    fooled = right & valid & found.fooled
    near = found.distance <= threat.reach
    rows = pd.DataFrame(
        {
            "example": given.ids,
            "label": y.cpu(),
            "clean_prediction": clean.prediction.cpu(),
            "prediction": found.prediction.where(finite, -1).cpu(),
            "valid": valid.cpu(),
            "fooled": fooled.cpu(),
            "unstable": (fooled & found.unstable).cpu(),
            "margin": found.margin.where(finite, torch.nan).cpu(),
            "distance": found.distance.where(finite, torch.inf).cpu(),
        }
    )
    n = len(rows)
    return Verification(
        model=subject.name,
        dataset=originals.name,
        threat=str(threat),
        n=n,
        clean=wilson(int(right.sum()), n),
        robust=wilson(int((right & ~fooled).sum()), n),
        fooled=int(fooled.sum()),
        unstable=int(rows["unstable"].sum()),
        not_finite=int((~finite).sum()),
        outside_box=int((finite & ~boxed).sum()),
        outside_ball=int((finite & ~near).sum()),
        largest_distance=float(rows["distance"].max()),
        rows=rows,
    )


def _scaled(images: np.ndarray, where: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    if not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{where}: expected images as uint8 or floats in [0, 1], got {images.dtype}")
    with np.errstate(over="ignore"):  # infinite then, which the judge finds
        return images.astype(np.float32)


def _integers(values: np.ndarray, where: str) -> Tensor:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise UserError(f"{where}: expected y and ids as integers (N,), got {values.dtype} of shape {values.shape}")
    return torch.from_numpy(values.astype(np.int64))
