"""Which versions of what decides numbers are installed."""

import platform
from importlib.metadata import version


def used_versions() -> dict[str, str]:
    """Of what numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("robench", "torch", "numpy")}}
