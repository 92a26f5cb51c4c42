"""The tables' columns: name, dtype, unit and meaning; imports pyarrow alone.

RUNS also carries the resolved spec as dotted columns, and METRICS whatever a task measures besides;
those have no fixed list, but `spec_column` and `metric_column` fix how their dtypes are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from analysis.errors import StoreError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    dtype: pa.DataType
    unit: str
    meaning: str


RUNS = (
    Column("run_id", pa.string(), "-", "hash of everything that determines the run"),
    Column("config_id", pa.string(), "-", "the same without the seeds: replicates share it"),
    Column("shape_key", pa.string(), "-", "the same without per-member fields: what may share a cohort"),
    Column("status", pa.string(), "-", "finished, diverged or failed"),
    Column("reason", pa.string(), "-", "why it ended where it did: budget, event, or what went wrong"),
    Column("traceback", pa.string(), "-", "of a failed run; null otherwise"),
    Column("steps", pa.int64(), "optimiser steps", "rows in METRICS: steps 0 to steps-1"),
    Column("online_event_step", pa.int64(), "optimiser steps", "where the online stop rule saw the event; null: not"),
    Column("level.loss_chance", pa.float64(), "nats, or squared", "loss of knowing nothing"),
    Column("level.loss_plateau", pa.float64(), "nats, or squared", "loss of the best answer without the hidden step"),
    Column("level.loss_floor", pa.float64(), "nats, or squared", "loss of the best answer"),
    Column("level.accuracy_chance", pa.float64(), "fraction", "accuracy of knowing nothing"),
    Column("level.accuracy_plateau", pa.float64(), "fraction", "accuracy of the best answer without the hidden step"),
    Column("level.accuracy_ceiling", pa.float64(), "fraction", "accuracy of the best answer"),
    Column("spec", pa.string(), "-", "the resolved spec as JSON: enough to train the run again"),
    Column("block", pa.string(), "-", "the commit that wrote the run; METRICS rows of the run carry the same"),
    Column("cohort", pa.string(), "-", "provenance: cohort that trained it"),
    Column("width", pa.int64(), "runs", "provenance: slots of that cohort when the run ended"),
    Column("device", pa.string(), "-", "provenance: processor or accelerator"),
    Column("host", pa.string(), "-", "provenance: machine"),
    Column("versions", pa.string(), "-", "provenance: eureka, torch, numpy and Python versions, JSON"),
    Column("ended_at", pa.timestamp("ms", tz="UTC"), "-", "provenance: when the run was committed"),
    Column("seconds", pa.float64(), "s", "provenance: the run's share of its cohort's time"),
    Column("schema_version", pa.int64(), "-", "version of this table's layout"),
)

METRICS = (
    Column("run_id", pa.string(), "-", "joins RUNS; dictionary-encoded in the file"),
    Column("block", pa.string(), "-", "joins RUNS; rows without their pair there are no one's"),
    Column("step", pa.int32(), "optimiser steps", "updates made before this step's loss was computed"),
    Column("loss", pa.float32(), "nats, or squared", "mean training loss of the step's fresh batch"),
    Column("accuracy", pa.float32(), "fraction", "share of right answers in that batch"),
    Column("grad_norm", pa.float32(), "-", "norm of the run's whole gradient, before clipping"),
)

METRICS_KEYS = ("run_id", "block", "step")  # every other column of METRICS is a metric or a measure

DIGESTS = (
    Column("run_id", pa.string(), "-", "joins RUNS"),
    Column("block", pa.string(), "-", "joins RUNS; rows without their pair there are no one's"),
    Column("metric", pa.string(), "-", "the METRICS column that is digested"),
    Column("bin", pa.int32(), "-", "counts the run's bins that hold a finite value, from 0"),
    Column("at_step", pa.float64(), "optimiser steps", "middle of the steps in the bin, at least 0.5"),
    Column("value", pa.float64(), "the metric's", "median of its finite values"),
    Column("n_steps", pa.int32(), "optimiser steps", "how many were finite"),
)

PROVENANCE = ("block", "cohort", "width", "device", "host", "versions", "ended_at", "seconds", "schema_version")


def schema(columns: tuple[Column, ...]) -> pa.Schema:
    """A table's fixed columns, each described in its metadata."""
    fields = [
        pa.field(column.name, column.dtype, metadata={"unit": column.unit, "meaning": column.meaning})
        for column in columns
    ]
    return pa.schema(fields)


def spec_column(kind: type) -> pa.DataType:
    """Arrow type of a spec's leaf."""
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}[kind]


def unify(tables: list[pa.Table]) -> pa.Table:
    """Rows of tables whose dotted columns differ: missing ones are null, nulls take the others' type."""
    try:
        return pa.concat_tables(tables, promote_options="permissive") if tables else schema(RUNS).empty_table()
    except pa.ArrowException as error:
        first = str(error).partition("\n")[0]
        raise StoreError(f"runs: tables do not go together ({first}); `eureka doctor` says which are damaged") from None
