"""Tests of robench. They start a hundred processes, which share the compiled bytecode of what they import, whatever the
environment says; without it each spends ten seconds on compiling torch."""

import os
import sys
from pathlib import Path

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("NUMBA_OPT", "0")  # what foolbox compiles for B&B takes longer than it then runs

ROOT = Path(__file__).resolve().parents[1]
"""Of the checkout."""
