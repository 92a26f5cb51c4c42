"""A store with one of each of its files, made in milliseconds: six runs of a real sweep, whose curves are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.rows import curve, new_block
from analysis.store import Store
from orchestrator.pulse import spec_columns
from orchestrator.sweep import Sweep, sweep_from_text
from workloads.fields import column_types

TEXT = """\
name: small
question: Does it learn?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 60, batch: 8}
axes: {optim.lr: [1.0e-3, 1.0e-2]}
replicates: 4
log: {measures_every_steps: 20, snapshots: [0, 60]}
"""
COHORT = "c0ffee"
STATUSES = ("finished", "finished", "diverged", "failed", "finished", "finished")


def sweep() -> Sweep:
    """The sweep."""
    return sweep_from_text(TEXT, file="small.yaml")


def made(folder: Path) -> Store:
    """A store below a folder: two blocks of runs, one cohort under way, snapshots, a probe's readings, a claim."""
    store, asked = Store.create(folder), sweep()
    store.save_sweep(asked.record())
    for numbers in ((0, 1, 2), (3, 4, 5)):
        rows = [ledger_row(asked.runs[n], STATUSES[n], steps=60 if STATUSES[n] == "finished" else 30) for n in numbers]
        curves = [curve_of(row, seed=n) for n, row in zip(numbers, rows, strict=True) if row["steps"]]
        store.commit(rows, curves, types=column_types(asked.runs[0]))
    left = asked.runs[len(STATUSES) :]
    members = [run.model_dump() for run in left]
    record = {"members": members, "width": 2, "device": "cpu", "checkpoint_s": 5.0, "resumes": True}
    store.save_cohort(asked.name, COHORT, record)
    store.checkpoints.save(COHORT, {run.run_id: state() for run in left})
    for run in asked.runs[:2]:
        store.snapshots.save(run.run_id, 0, {"embed.weight": np.zeros((8, 8), np.float32)})
    store.probes.add(new_block(), [readings(asked.runs[0].run_id)])
    claims = store.sweep_dir(asked.name) / "claims"
    claims.mkdir()
    (claims / "other-1-abc.json").write_text('{"beat": 3, "runs": ["0123456789abcdef"]}')
    return store


def ledger_row(spec: Any, status: str, *, steps: int) -> dict[str, Any]:
    """A RUNS row."""
    end = {"status": status, "reason": "budget", "steps": 0 if status == "failed" else steps}
    provenance = {"cohort": COHORT, "width": 4, "device": "cpu", "host": "h", "versions": "{}", "seconds": 1.0}
    return spec_columns(spec) | end | provenance | {"online_event_step": 20 if status == "finished" else None}


def curve_of(row: dict[str, Any], *, seed: int) -> pa.Table:
    """Its METRICS rows."""
    rng, steps = np.random.default_rng(seed), row["steps"]
    metrics = {name: rng.normal(1.0, 0.1, steps).astype(np.float32) for name in ("loss", "accuracy", "grad_norm")}
    return curve(row["run_id"], metrics, np.arange(0, steps, 20), {"entropy": np.ones(-(-steps // 20), np.float32)})


def state() -> dict[str, np.ndarray]:
    """A saved state, as far as the store reads it."""
    return {"step": np.array(20), "history": np.ones((20, 3), np.float32), "row": np.zeros(32, np.float32)}


def readings(run: str) -> dict[str, Any]:
    """A PROBES row."""
    ids = {"probe_id": "p" * 16, "run_id": run, "step": 0, "intervention": "plain", "options": "{}"}
    return ids | {"examples": 8, "seed": 0, "layer": None, "head": None, "item": None, "metric": "loss", "value": 1.0}
