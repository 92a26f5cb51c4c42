"""Sweep files for tests, as text, and a fresh interpreter to try them in."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = """\
question: Does a softer softmax bring the eureka-moment forward?
base:
  task: {name: two_step, n_classes: 4}
  model:
    width: 32
    attention: {name: softmax}
  optim:
    name: adamw
    lr: 1.0e-3
  budget: {steps: 100, batch: 8}
"""


def sweep_text(rest: str = "", *, base: str = BASE) -> str:
    """A valid base, and whatever a test adds below it."""
    return base + textwrap.dedent(rest)


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds the project."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)
