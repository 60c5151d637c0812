"""What `bench` measured for figures: results/measurements/KIND-FINGERPRINT.json, written whole and never changed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robench.atomic import replacing
from robench.errors import UserError
from robench.fingerprints import fingerprint


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
            text = json.dumps(asdict(measurement), sort_keys=True, separators=(",", ":"), default=str)
            temporary.write_text(text + "\n")

    def of_kind(self, kind: str) -> list[Measurement]:
        """All of one kind, newest first."""
        found = [_read(path) for path in sorted(self.path.glob(f"{kind}-*.json"))]
        return sorted(found, key=lambda measurement: str(measurement.run["started"]), reverse=True)

    def _file(self, kind: str, key: Mapping[str, Any]) -> Path:
        return self.path / f"{kind}-{fingerprint(dict(key))}.json"


def _read(path: Path) -> Measurement:
    try:
        return Measurement(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and run robench bench again") from None
