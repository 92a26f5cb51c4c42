"""Rows of a block as tables: those of the ledger, and curves."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.schema import RUNS, schema, spec_column, unify


def new_block() -> str:
    """A name no other writer picks; sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}"


def runs_rows(rows: Sequence[Mapping[str, Any]], *, types: Mapping[str, type]) -> pa.Table:
    """RUNS rows as a table: fixed columns first, then levels that a task has besides, then the dotted ones."""
    known = {column.name for column in RUNS}
    others = sorted({name for row in rows for name in row if name.startswith("level.")} - known)
    levels = [pa.field(name, spec_column(float)) for name in others]
    dotted = [pa.field(name, spec_column(kind)) for name, kind in types.items()]
    return pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema([*schema(RUNS), *levels, *dotted]))


def metrics_rows(block: str, curves: Sequence[pa.Table]) -> pa.Table:
    """Curves of a block as one table, run by run."""
    return in_block(unify(sorted(curves, key=lambda curve: curve["run_id"][0].as_py())), block, column=1)


def in_block(table: pa.Table, block: str, *, column: int) -> pa.Table:
    """Rows that say of which block they are, in that column, whatever they said before."""
    if "block" in table.column_names:
        table = table.drop_columns("block")
    return table.add_column(column, schema(RUNS).field("block"), pa.repeat(block, len(table)))


def curve(
    run_id: str, metrics: Mapping[str, np.ndarray], measured: np.ndarray, measures: Mapping[str, np.ndarray]
) -> pa.Table:
    """METRICS rows of one run; measures are null at the steps where they were not taken.

    Args:
        run_id: of the run.
        metrics: one float32 array a metric, one value a step [steps].
        measured: steps at which the measures were taken.
        measures: one float32 array a measure [measured steps].
    """
    steps = len(next(iter(metrics.values())))
    columns: dict[str, Any] = {
        "run_id": pa.repeat(run_id, steps),
        "step": pa.array(np.arange(steps, dtype=np.int32)),
        **metrics,
    }
    missing = np.ones(steps, dtype=bool)
    missing[measured] = False
    for name, values in measures.items():
        spread = np.zeros(steps, np.float32)
        spread[measured] = values
        columns[name] = pa.array(spread, mask=missing)
    return pa.table(columns)
