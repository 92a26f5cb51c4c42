"""The store's tables as Polars frames: the one place where the two meet."""

from collections.abc import Collection

import polars as pl

from analysis.store import Store

METRICS_SCHEMA = {"run_id": pl.String, "block": pl.String, "step": pl.Int32}


def runs(store: Store, *, run_ids: Collection[str] | None = None) -> pl.DataFrame:
    """RUNS rows, sorted by run_id; of the given runs only, where given [one row a run]."""
    frame = pl.from_arrow(store.runs_table())
    assert isinstance(frame, pl.DataFrame)
    if run_ids is not None:
        frame = frame.filter(pl.col("run_id").is_in(list(run_ids)))
    return frame.sort("run_id")


def metrics(store: Store, *, run_ids: Collection[str] | None = None) -> pl.LazyFrame:
    """METRICS rows of committed runs, unread until collected [one row a (run, step)].

    A row counts only where its (run_id, block) is in RUNS, so nothing of an attempt that was never committed is read.
    """
    paths = store.metrics_paths()
    if not paths:
        return pl.LazyFrame(schema=METRICS_SCHEMA | {"loss": pl.Float32, "accuracy": pl.Float32})
    committed = runs(store, run_ids=run_ids).lazy().select("run_id", "block")
    files = [pl.scan_parquet(path).with_columns(pl.col("run_id", "block").cast(pl.String)) for path in paths]
    return pl.concat(files, how="diagonal").join(committed, on=["run_id", "block"], how="semi")
