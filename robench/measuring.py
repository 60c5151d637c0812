"""Measures what figures show: each kind is a file of robench/measure/, and what it finds is kept and not made again."""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robench.checkpoint import used_versions
from robench.errors import UserError, unknown
from robench.evaluation import SOURCE, Evaluation
from robench.fingerprints import source_fingerprint
from robench.measurements import Measurement, Measurements
from robench.provenance import run_manifest
from robench.settings import checked

FOLDER = Path(__file__).parent / "measure"


def kinds() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def measure_model(evaluation: Evaluation, kind: str, settings: Mapping[str, Any], results: Path | str) -> Measurement:
    """A measurement of a model, on the images, within the threat and on the device of an evaluation."""
    function = _function(kind)
    settings = _configured(function, settings, f"measurement {kind}")
    key = {**evaluation.key(None), "seed": evaluation.seed}
    del key["attack"]
    return _measured(kind, key, evaluation.about(None), settings, results, evaluation.device, function, evaluation)


def measure_once(kind: str, settings: Mapping[str, Any], results: Path | str, device: str) -> Measurement:
    """A measurement of no model in particular."""
    function = _function(kind)
    settings = _configured(function, settings, f"measurement {kind}")
    key = {"engine": SOURCE, "libraries": {name: used_versions()[name] for name in ("torch", "numpy")}}
    return _measured(kind, key, {}, settings, results, device, function)


def check(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuses a kind or settings that are not known."""
    _configured(_function(kind), settings, f"measurement {kind}")


def _function(kind: str) -> Any:
    if kind not in kinds():
        raise unknown("measurement", kind, kinds())
    return importlib.import_module(f"robench.measure.{kind}").measure


def _configured(function: Any, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings, checked against the function's keywords and filled up with its defaults."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    keywords = {each.name: each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    for name in settings:
        if name not in keywords:
            raise unknown(f"setting of {where}", name, keywords)
    values = {name: each.default for name, each in keywords.items()} | dict(settings)
    return {name: checked(value, keywords[name].annotation, f"{where}: {name}") for name, value in values.items()}


def _measured(
    kind: str,
    of: Mapping[str, Any],
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    results: Path | str,
    device: str,
    function: Any,
    *given: Any,
) -> Measurement:
    files = [FOLDER / f"{kind}.py", *getattr(inspect.getmodule(function), "USES", [])]
    key = {**of, "settings": dict(settings), "source": source_fingerprint(files)}
    store = Measurements(results)
    if kept := store.find(kind, key):
        return kept
    found = function(*given, **settings)
    if not isinstance(found, dict):
        raise UserError(f"expected the measurement {kind} to give a dictionary, got {type(found).__name__}")
    measurement = Measurement(kind, key, {**about, "settings": dict(settings)}, found, run_manifest(device))
    store.record(measurement)
    return measurement
