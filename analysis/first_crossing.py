"""When did a metric first reach a level: the first bin whose median has.

Of single steps nobody should ask it: batch noise makes one reach a level long before the curve does. The answer comes
from the stored digests, so it costs the reading of small files; the ledger is not read, since a block's digests are of
its own runs alone.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from analysis import frames
from analysis.bins import is_current
from analysis.errors import StoreError
from analysis.files import read_parquet
from analysis.places.object_path import File
from analysis.store import Store

_COLUMNS = ["run_id", "metric", "at_step", "value"]


def first_bins(store: Store, *, level: float, metric: str = "loss", falls: bool = True) -> pl.DataFrame:
    """The first bin of each run whose median has reached a level.

    Args:
        store: the store.
        level: to be reached, itself included [metric].
        metric: a METRICS column.
        falls: whether it is reached from above.

    Returns:
        One row a run that reached it, sorted by run_id: run_id; at_step, the middle of that bin [steps].

    Raises:
        NoSuchColumn: no run of the store has the metric.
        StoreError: a curve is missing or damaged.

    Checked by: test_first_crossing.py::test_first_bins_are_those_of_the_whole_digest
    """
    found: dict[str, float] = {}
    for block in store.blocks():
        part = _of_file(store.digest_path(block), level=level, metric=metric, falls=falls)
        if part is None:  # its digests are to be made, or a merge has just moved it: the long way
            return _of_all(store, level=level, metric=metric, falls=falls)
        found |= part
    if not found:  # is there such a metric?
        return _of_all(store, level=level, metric=metric, falls=falls)
    columns = {"run_id": list(found), "at_step": list(found.values())}
    return pl.DataFrame(columns, schema={"run_id": pl.String, "at_step": pl.Float64}).sort("run_id")


def _of_file(path: File, *, level: float, metric: str, falls: bool) -> dict[str, float] | None:
    """The first such bin of each run of a block; None where its digests are not there, or of no use."""
    try:
        table = read_parquet(path, columns=_COLUMNS, coded=("run_id", "metric"))
    except StoreError:
        return None
    if not is_current(table.schema.metadata or {}):
        return None
    runs, metrics = _coded(table, "run_id"), _coded(table, "metric")
    names, kinds = runs.dictionary.to_pylist(), metrics.dictionary.to_pylist()
    value = table["value"].to_numpy()
    is_hit = value <= level if falls else value >= level
    is_hit &= metrics.indices.to_numpy() == (kinds.index(metric) if metric in kinds else -1)
    first = np.full(len(names), np.inf)
    np.minimum.at(first, runs.indices.to_numpy()[is_hit], table["at_step"].to_numpy()[is_hit])
    return {names[i]: float(first[i]) for i in np.flatnonzero(first < np.inf)}


def _coded(table: pa.Table, name: str) -> pa.DictionaryArray:
    """A text column as codes into one dictionary."""
    column = table[name].unify_dictionaries()
    if column.num_chunks == 0:
        return pa.array([], pa.dictionary(pa.int32(), pa.string()))
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _of_all(store: Store, *, level: float, metric: str, falls: bool) -> pl.DataFrame:
    rows = frames.digest(store, metric=metric).filter(pl.col("value") <= level if falls else pl.col("value") >= level)
    return rows.group_by("run_id").agg(pl.col("at_step").min()).sort("run_id")
