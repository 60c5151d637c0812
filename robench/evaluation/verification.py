"""Judges adversarial examples that someone else made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robench.data.arrays import layout_of
from robench.data.datasets import Split
from robench.data.objects import as_array
from robench.evaluation.model_checks import Behaviour, answering
from robench.evaluation.target import Subject
from robench.search.classifier import Classifier
from robench.search.judge import VOTES, Judge
from robench.threat import ThreatModel
from robench.utils.errors import UserError
from robench.utils.stats import Interval, wilson


@dataclass(frozen=True)
class Submission:
    """x_adv [N, C, H, W], float32, made from the images of `originals`; `ids` [N] name them for people."""

    x_adv: Tensor
    originals: Split
    ids: np.ndarray


@dataclass(frozen=True)
class Verification:
    """What the judge found on `n` examples, of which `valid` have an x_adv within the threat.

    `robust` is over these alone: right when clean, and not fooled; None where there is none. An x_adv that is not valid
    is no evidence of robustness, so that over all examples the robust accuracy is only known to lie between `at_least`
    and `at_most`.
    """

    model: str
    dataset: str
    threat: str
    n: int
    valid: int
    clean: Interval
    robust: Interval | None
    at_least: float
    at_most: float
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
        intervals = {"clean": self.clean._asdict(), "robust": self.robust._asdict() if self.robust else None}
        return {**fields, **intervals, "largest_distance": distance}


Adversarial = Path | str | Tensor | np.ndarray | Mapping[str, Any]
"""A file, the arrays that are in one by their names, or x_adv alone of the first images of the data set."""


def read(adversarial: Adversarial, split: Split | None) -> Submission:
    """x_adv, floats in [0, 1] or uint8; with x and y, or with ids, their rows in `split`."""
    if isinstance(adversarial, str | Path):
        return _from_file(adversarial, split)
    if isinstance(adversarial, Mapping):
        given = {str(key): as_array(value, str(key)) for key, value in adversarial.items()}
    else:
        x_adv = as_array(adversarial, "x_adv")
        given = {"x_adv": x_adv, "ids": np.arange(len(x_adv) if x_adv.ndim else 0)}
    _check_keys(given, "the dictionary")
    return submission(given, split, "x_adv")


def _from_file(path: Path | str, split: Split | None) -> Submission:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ("x_adv", "x", "y", "ids") if key in archive}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except Exception as error:  # NumPy lets zipfile's, zlib's and its own errors through
        raise UserError(f"{path} is not a readable archive of plain arrays ({error})") from None
    _check_keys(arrays, str(path))
    return submission(arrays, split, str(path))


def _check_keys(found: Mapping[str, np.ndarray], where: str) -> None:
    if "x_adv" not in found or not ({"x", "y"} <= set(found) or "ids" in found):
        raise UserError(f"expected x_adv, and x and y or ids, in {where}, got {', '.join(found) or 'none of them'}")


def submission(arrays: Mapping[str, np.ndarray], split: Split | None, where: str) -> Submission:
    """Checks the arrays; those outside [0, 1] or not finite are for the judge to find."""
    x_adv = _channels_first(arrays["x_adv"])
    if x_adv.ndim != 4:
        raise UserError(f"{where}: expected x_adv of shape (N, channels, height, width), got {x_adv.shape}")
    if {"x", "y"} <= set(arrays):
        x = torch.from_numpy(_scaled(_channels_first(arrays["x"]), where))
        originals = Split(where, x, _integers(arrays["y"], where))
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
    return Submission(torch.from_numpy(_scaled(x_adv, where)), originals, ids)


def verify(
    subject: Subject,
    given: Submission,
    threat: ThreatModel,
    *,
    behaviour: Behaviour,
    device: str = "cpu",
    eight_bit: bool = False,
) -> Verification:
    """The judge's view of examples, as they are or, with `eight_bit`, after `rounded`."""
    judge = Judge(Classifier(subject.model, device), threat, VOTES if behaviour.stochastic else 1)
    originals, x_adv = given.originals.to(torch.device(device)), given.x_adv.to(device)
    x, y = originals.floats(slice(None)), originals.labels
    if eight_bit:
        x_adv = rounded(x_adv, x, threat)
    finite = x_adv.flatten(1).isfinite().all(1)
    with answering(subject.name, "the images given"):
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
    n, right_and_valid = len(rows), int((right & valid & ~fooled).sum())
    return Verification(
        model=subject.name,
        dataset=originals.name,
        threat=str(threat),
        n=n,
        valid=int(valid.sum()),
        clean=wilson(int(right.sum()), n),
        robust=wilson(right_and_valid, int(valid.sum())) if valid.any() else None,
        at_least=right_and_valid / n,
        at_most=int((right & ~fooled).sum()) / n,
        fooled=int(fooled.sum()),
        unstable=int(rows["unstable"].sum()),
        not_finite=int((~finite).sum()),
        outside_box=int((finite & ~boxed).sum()),
        outside_ball=int((finite & ~near).sum()),
        largest_distance=float(rows["distance"].max()),
        rows=rows,
    )


def rounded(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """x_adv [N, C, H, W] as uint8 stores it, floats in [0, 1]: each pixel at the nearest of 256 levels. Where an image
    within the threat would leave it so, pixels go to a level nearer to x instead, as few as are needed and those first
    that go least out of their way; so that it stays within wherever images of 256 levels are."""
    x_adv = x_adv.clamp(threat.low, threat.high)
    levels = 255 * x_adv.double()
    image = (levels.round() / 255).float()
    below, above = ((side / 255).float() for side in (levels.floor(), levels.ceil()))
    beside = below.where((below - x).abs() <= (above - x).abs(), above)  # of the two around x_adv the one nearer to x
    for nearer in (beside, (255 * x).round() / 255):
        left = threat.contains(x_adv, x) & ~threat.contains(image, x)
        image = _nearer(image, nearer, x, threat).where(left.view(-1, 1, 1, 1), image)
    return image


def _nearer(image: Tensor, nearer: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """Images [N, ...] with pixels of `nearer` in their place until they lie within the ball, or have no more."""
    if threat.norm == "linf":
        return nearer.where((image - x).abs() > threat.reach, image)
    gained = ((image - x).double().square() - (nearer - x).double().square()).flatten(1).clamp(min=0)
    way = (nearer - image).abs().flatten(1).masked_fill(gained == 0, torch.inf)
    order = way.argsort(dim=1, stable=True)
    before = gained.gather(1, order).cumsum(1) - gained.gather(1, order)
    lacking = (image - x).double().flatten(1).square().sum(1, keepdim=True) - threat.eps**2
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, (before < lacking) & (lacking > 0))
    return nearer.where(chosen.view_as(image) & (gained > 0).view_as(image), image)


def _channels_first(images: np.ndarray) -> np.ndarray:
    """images [N, H, W, C], where their shape tells that they are such, as [N, C, H, W]."""
    last = images.ndim == 4 and layout_of(images.shape) == "NHWC"
    return images.transpose(0, 3, 1, 2) if last else images


def _scaled(images: np.ndarray, where: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    if not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{where}: expected images as uint8 or floats in [0, 1], got {images.dtype}")
    largest = np.where(np.isfinite(images), images, 0).reshape(len(images), -1).max(1, initial=0)
    if len(images) and (largest > 2).mean() > 0.5:  # a few that diverged are for the judge to find
        raise UserError(
            f"{where}: expected floats in [0, 1], got values up to {largest.max():g} in most images; divide those in "
            "units of 0 to 255 by 255, or save them as uint8"
        )
    with np.errstate(over="ignore"):  # infinite then, which the judge finds
        return images.astype(np.float32)


def _integers(values: np.ndarray, where: str) -> Tensor:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise UserError(f"{where}: expected y and ids as integers (N,), got {values.dtype} of shape {values.shape}")
    return torch.from_numpy(values.astype(np.int64))
