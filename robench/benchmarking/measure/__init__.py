"""Measures what figures show: each kind is a file beside this one, and what it finds is kept and not made again."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from robench.evaluation.evaluation import WORKER, Evaluation
from robench.ledger.measurements import Measurement, Measurements
from robench.ledger.provenance import run_manifest
from robench.utils.code import code_fingerprint
from robench.utils.errors import UserError, unknown
from robench.utils.settings import checked
from robench.utils.versions import used_versions

FOLDER = Path(__file__).parent


def kinds() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def measure_model(evaluation: Evaluation, kind: str, settings: Mapping[str, Any], results: Path | str) -> Measurement:
    """A measurement of a model, on the images, within the threat and on the device of an evaluation."""
    key = {**evaluation.key(None), "n": len(evaluation.wanted), "seed": evaluation.seed}
    del key["attack"]
    configured = _configured(kind, settings)
    return _measured(configured, key, evaluation.about(None), results, evaluation.device, evaluation)


def measure_once(kind: str, settings: Mapping[str, Any], results: Path | str, device: str) -> Measurement:
    """A measurement of no model in particular."""
    key = {
        "engine": code_fingerprint(WORKER),
        "libraries": {name: used_versions()[name] for name in ("torch", "numpy")},
    }
    return _measured(_configured(kind, settings), key, {}, results, device)


def check(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuses a kind or settings that are not known."""
    _configured(kind, settings)


@dataclass(frozen=True)
class _Configured:
    """A measurement with its settings, defaults among them: as they are written, as the function takes them, and what
    of them could change the numbers."""

    kind: str
    function: Any
    written: Mapping[str, Any]
    values: Mapping[str, Any]
    key: Mapping[str, Any]


def _configured(kind: str, settings: Mapping[str, Any]) -> _Configured:
    """The settings, checked against the annotations of the function's keywords."""
    if kind not in kinds():
        raise unknown("measurement", kind, kinds())
    function = importlib.import_module(f"robench.benchmarking.measure.{kind}").measure
    where = f"measurement {kind}"
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    keywords = {each.name: each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    for name in settings:
        if name not in keywords:
            raise unknown(f"setting of {where}", name, keywords)
    written = {name: each.default for name, each in keywords.items()} | dict(settings)
    for name, value in written.items():
        if value is inspect.Parameter.empty:
            raise UserError(f"{where}: the setting {name} has no default and was not given")
    types = {name: each.annotation for name, each in keywords.items()}
    values = {name: checked(value, types[name], f"{where}: {name}") for name, value in written.items()}
    key = {name: TypeAdapter(types[name]).dump_python(value) for name, value in values.items()}
    return _Configured(kind, function, written, values, key)


def _measured(
    configured: _Configured,
    of: Mapping[str, Any],
    about: Mapping[str, Any],
    results: Path | str,
    device: str,
    *given: Any,
) -> Measurement:
    kind = configured.kind
    module = inspect.getmodule(configured.function)
    files = [FOLDER / f"{kind}.py", *getattr(module, "USES", [])]
    machine = {"device": device, "threads": torch.get_num_threads()} if getattr(module, "OF_MACHINE", False) else {}
    key = {**of, "settings": configured.key, "source": code_fingerprint(*files), **machine}
    store = Measurements(results)
    if kept := store.find(kind, key):
        return kept
    found = configured.function(*given, **configured.values)
    if not isinstance(found, dict):
        raise UserError(f"expected the measurement {kind} to give a dictionary, got {type(found).__name__}")
    settings = {"settings": dict(configured.written)}
    measurement = Measurement(kind, key, {**about, **settings}, found, run_manifest(device))
    store.record(measurement)
    return measurement
