"""Which versions of what decides numbers are installed."""

import platform
from functools import cache
from importlib.metadata import version


def used_versions() -> dict[str, str]:
    """Of what numbers depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in ("robench", "torch", "numpy")}}


_version = cache(version)
"""As installed when first asked; it reads a folder for some milliseconds."""
