"""A sweep small enough to train in a second, real in every part; shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from orchestrator.sweep import Sweep, load_sweep

TEXT = """
question: Does it train?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 60, batch: 8}
axes:
  optim.lr: [1.0e-3, 1.0e-2]
replicates: 3
log: {measures_every_steps: 20}
"""


def small(folder: Path, *overrides: str, name: str = "small") -> Sweep:
    path = folder / f"{name}.yaml"
    path.write_text(TEXT)
    return load_sweep(path, overrides=overrides)
