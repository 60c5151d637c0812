"""Puts the top-level folders attacks/, defenses/ and benchmarks/, less the timings, inside the installed package.

An editable install reads them where they lie, so a copy there would only go stale.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ContentFolders(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for folder in ("attacks", "defenses", "benchmarks"):
            root = Path(self.root) / folder
            for path in sorted(root.rglob("*")):
                if path.is_file() and not {"__pycache__", "speed"} & set(path.relative_to(root).parts):
                    build_data["force_include"][str(path)] = f"robench/{folder}/{path.relative_to(root)}"
