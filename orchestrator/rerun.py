"""Trains one stored run again, alone, and compares it with what the store has, bit by bit."""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.files import read_parquet
from analysis.store import Store
from orchestrator.errors import BadRequest
from orchestrator.worker import outcome_curve
from workloads.cohort import Cohort, Outcome
from workloads.spec import RunSpec, resolve


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """What came of training a run again.

    Attributes:
        run_id: of the run.
        stored_status, status: before and now: finished, diverged or failed.
        steps: trained now [optimiser steps].
        first_difference: first step at which a metric differs in any bit; None where none does.
        compared: steps that both have.
        text: the traceback if it failed, else why it ended.
    """

    run_id: str
    stored_status: str
    status: str
    steps: int
    compared: int
    first_difference: int | None
    text: str


def rerun(store_path: str | os.PathLike[str], run_id: str, *, device: str = "cpu") -> Rerun:
    """Train a run again in this process, at width 1, writing nothing.

    Args:
        store_path: the store that has it.
        run_id: the id, or enough of its beginning to tell it from others.
        device: where to train; bits agree only where the stored run was trained on the same kind.

    Raises:
        BadRequest: no run, or several, begin like that.
    """
    store = Store(store_path)
    row = find_run(store, run_id)
    spec = resolve(json.loads(row["spec"]))
    known = {"run_id": spec.run_id, "stored_status": row["status"]}
    try:
        outcome = train_alone(spec, device=device, store=store)
    except Exception:  # what `rerun` is for: the fault, with nobody else around
        text = traceback.format_exc()
        return Rerun(**known, status="failed", steps=0, compared=0, first_difference=None, text=text)
    compared, difference = _compare(stored_curve(store, row), outcome_curve(outcome))
    return Rerun(
        **known,
        status=outcome.status,
        steps=outcome.steps,
        compared=compared,
        first_difference=difference,
        text=outcome.reason,
    )


def train_alone(spec: RunSpec, *, device: str, store: Store) -> Outcome:
    """One run, one slot, from its start to its end; a fork starts from a snapshot in the store."""
    cohort = Cohort([spec], width=1, device=device, weights=store.snapshots.load)
    return cohort.advance()[0]


def find_run(store: Store, beginning: str) -> dict[str, str]:
    """The ledger row of the one run whose id begins so.

    Raises:
        BadRequest: there is none, or more than one.
    """
    matches = [run for run in store.statuses() if beginning and run.startswith(beginning)]
    if len(matches) != 1:
        found = f"{len(matches)} runs begin so; give more of the id" if matches else "no run begins so"
        raise BadRequest(f"{store.path}: run '{beginning}': {found}")
    table = store.runs_table().filter(pc.field("run_id") == matches[0])
    row: dict[str, str] = table.select(["run_id", "block", "status", "spec", "steps"]).to_pylist()[0]
    return row


def stored_curve(store: Store, row: dict[str, str]) -> pa.Table | None:
    """A run's METRICS rows in step order; None for a run without any."""
    for path in store.metrics_paths([row["block"]]):
        if row["block"] in path:
            mine = pc.field("run_id") == row["run_id"]
            return read_parquet(Path(path)).filter(mine).sort_by("step")
    return None


def _compare(stored: pa.Table | None, now: pa.Table) -> tuple[int, int | None]:
    """Steps in common, and the first at which any value of any column differs in its bits."""
    if stored is None:
        return 0, None
    steps = min(len(stored), len(now))
    differs = np.zeros(steps, dtype=bool)
    for name in set(stored.column_names) & set(now.column_names) - {"run_id", "block", "step"}:
        pair = [table[name][:steps].combine_chunks().fill_null(-1.0).to_numpy() for table in (stored, now)]
        differs |= pair[0].view(np.int32) != pair[1].view(np.int32)
    if not differs.any():
        return steps, steps if len(stored) != len(now) else None
    return steps, int(differs.argmax())
