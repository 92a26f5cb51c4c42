"""Ledger rows and curves with made-up values, for tests of the store alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from analysis.rows import curve

TYPES = {"optim.lr": float}


def row(run: str, *, steps: int = 20, status: str = "finished", **more: Any) -> dict[str, Any]:
    ids = {"run_id": run, "config_id": "c", "shape_key": "s"}
    end = {"status": status, "reason": "budget", "steps": 0 if status == "failed" else steps}
    provenance = {"cohort": "k", "width": 4, "device": "cpu", "host": "h", "versions": "{}", "seconds": 1.0}
    return ids | end | provenance | {"spec": "{}", "optim.lr": 1e-3} | more


def curve_of(run: str, *, steps: int = 20, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng([seed, *run.encode()])
    metrics = {name: rng.normal(size=steps).astype(np.float32) for name in ("loss", "accuracy", "grad_norm")}
    return curve(run, metrics, np.arange(0, steps, 5), {"entropy": np.ones(-(-steps // 5), np.float32)})
