"""What made a result: command, versions, commit, device, date. Frozen when a run begins."""

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from robench.utils.versions import used_versions


def run_manifest(device: torch.device | str) -> dict[str, Any]:
    """JSON-like; holds no name of a user, a host or an absolute path of the program."""
    device = torch.device(device)
    commit, dirty = _commit()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": used_versions(),
        "commit": commit,
        "dirty": dirty,
        "device": f"{device.type} {name}",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> tuple[str | None, bool | None]:
    """The commit of robench's own checkout and whether files differ from it; None where it is no checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None, None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return head.stdout.strip(), bool(status.stdout.strip())
