"""What `bench` measured for figures: results/measurements/KIND-FINGERPRINT.json, written whole and never changed."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from robench.ledger.sealing import sealed, unsealed
from robench.utils.errors import UserError
from robench.utils.files import replacing
from robench.utils.fingerprints import fingerprint
from robench.utils.text import cleaned_all


class MeasurementWarning(UserWarning):
    """A measurement cannot be read."""


@dataclass(frozen=True)
class Measurement:
    """`key`: what could change the numbers, the kind of measurement and its settings among it. `about`: names for
    people, as in a cell of the ledger. `found`: the numbers, JSON-like. `run`: what made it."""

    kind: str
    key: Mapping[str, Any]
    about: Mapping[str, Any]
    found: Mapping[str, Any]
    run: Mapping[str, Any]

    @property
    def dataset(self) -> str:
        """The set's name without its part: "digits", not "digits (test)"."""
        return str(self.about["dataset"]).partition(" (")[0]


class Measurements:
    """The folder of all measurements."""

    def __init__(self, results: Path | str) -> None:
        self.path = Path(results) / "measurements"

    def find(self, kind: str, key: Mapping[str, Any]) -> Measurement | None:
        """The measurement of this key, if it was made."""
        path = self._file(kind, key)
        return _read(path) if path.is_file() else None

    def record(self, measurement: Measurement) -> None:
        with replacing(self._file(measurement.kind, measurement.key)) as temporary:
            temporary.write_text(sealed(asdict(measurement), dense=True))

    def of_kind(self, kind: str) -> list[Measurement]:
        """All of one kind, newest first; one that cannot be read is left out, with a `MeasurementWarning`."""
        found, broken = self.readable(kind)
        for sentence in broken:
            warnings.warn(f"left out: {sentence}", MeasurementWarning, stacklevel=2)
        return found

    def readable(self, kind: str) -> tuple[list[Measurement], list[str]]:
        """Those of one kind that can be read, newest first, and of each other one what is wrong with it."""
        found, broken = [], []
        for path in sorted(self.path.glob(f"{kind}-*.json")):
            try:
                found.append(_read(path))
            except UserError as error:
                broken.append(str(error))
        return sorted(found, key=lambda measurement: str(measurement.run["started"]), reverse=True), broken

    def _file(self, kind: str, key: Mapping[str, Any]) -> Path:
        return self.path / f"{kind}-{fingerprint(dict(key))}.json"


def _read(path: Path) -> Measurement:
    try:
        measurement = Measurement(**unsealed(path.read_text()))
        measurement = replace(measurement, about=cleaned_all(measurement.about))
        if "started" not in measurement.run:
            raise ValueError("it does not say when it was started")
        return measurement
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and run robench bench again") from None
