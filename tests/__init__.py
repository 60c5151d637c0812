"""Tests of robench. They start a hundred processes, which share the compiled bytecode of what they import, whatever the
environment says; without it each spends ten seconds on compiling torch."""

import os
import sys
from pathlib import Path

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ROOT = Path(__file__).resolve().parents[1]
"""Of the checkout."""
