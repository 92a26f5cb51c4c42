"""A store's tables without their provenance, for comparison byte by byte."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.schema import PROVENANCE
from analysis.store import Store


def values(path: Path) -> tuple[pa.Table, pa.Table]:
    """RUNS and METRICS without provenance, in order."""
    runs = Store(path).runs_table().drop_columns(list(PROVENANCE)).sort_by("run_id")
    metrics = pa.concat_tables([pq.read_table(p) for p in Store(path).metrics_paths()], promote_options="permissive")
    return runs, metrics.drop_columns("block").sort_by([("run_id", "ascending"), ("step", "ascending")])


def as_bytes(table: pa.Table) -> dict[str, bytes]:
    """Each column's values as bytes: NaN equals NaN, and 0.1 equals nothing but 0.1."""
    columns = {}
    for name in sorted(table.column_names):
        sink = pa.BufferOutputStream()
        plain = pa.array(table[name].to_pylist(), table.schema.field(name).type)
        with pa.ipc.new_stream(sink, pa.schema([pa.field(name, plain.type)])) as writer:
            writer.write_table(pa.table({name: plain}))
        columns[name] = sink.getvalue().to_pybytes()
    return columns
