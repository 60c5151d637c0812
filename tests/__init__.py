"""Tests of robench. They start a hundred processes, which share the compiled bytecode of what they import, whatever the
environment says; without it each spends ten seconds on compiling torch."""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
