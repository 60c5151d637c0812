"""The folder of all cells of the ledger."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robench.ledger.cell import Cell
from robench.ledger.sealing import sealed
from robench.utils.errors import UserError
from robench.utils.files import make_folder, sweep, temporary_beside
from robench.utils.fingerprints import fingerprint


class Ledger:
    """The folder of all cells, `results/ledger`."""

    def __init__(self, results: Path | str) -> None:
        self.path = Path(results) / "ledger"

    def cells(self) -> list[Cell]:
        return [Cell(path.parent) for path in sorted(self.path.glob("*/cell.json"))]

    def readable(self) -> tuple[list[Cell], list[str]]:
        """The cells that can be read, and of each other one a sentence that says what is wrong with it."""
        whole, broken = [], []
        for cell in self.cells():
            try:
                cell.check()
                whole.append(cell)
            except UserError as error:
                broken.append(str(error))
        return whole, broken

    def find(self, key: dict[str, Any]) -> Cell | None:
        """The cell of this key, if there is one."""
        cell = Cell(self.path / fingerprint(key))
        return cell if (cell.path / "cell.json").exists() else None

    def cell(self, key: dict[str, Any], about: dict[str, Any], run: dict[str, Any]) -> Cell:
        """The cell of this key, opened with this `run` if it is new; the process that opens it freezes the run."""
        path = self.path / fingerprint(key)
        document = {"key": key, "about": about, "run": run}
        make_folder(path)
        sweep(path)
        try:
            with temporary_beside(path / "cell.json") as temporary:
                temporary.write_text(sealed(document))
                try:
                    os.link(temporary, path / "cell.json")  # of two beginners the first wins
                except FileExistsError:
                    pass
                except OSError:  # a file system without hard links
                    if not (path / "cell.json").exists():
                        temporary.replace(path / "cell.json")
        except OSError as error:
            raise UserError(f"the results folder {self.path.parent} cannot be written: {error.strerror}") from None
        return Cell(path)


def newest(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: cell.run["started"], reverse=True)
