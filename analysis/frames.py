"""The store's tables as Polars frames: the one place where the two meet."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from analysis.bins import BIN_STEPS, digest_rows, is_current
from analysis.digest import DIGEST_SCHEMA, require_metric
from analysis.errors import StoreError
from analysis.files import read_parquet, read_schema
from analysis.places.object_path import File, fetch
from analysis.store import Store
from analysis.vouched import DOCTOR, verified

METRICS_SCHEMA = {"run_id": pl.String, "block": pl.String, "step": pl.Int32}
_MOST_TRIES = 3  # how often a reader follows files that a merge moves under it


def runs(store: Store, *, run_ids: Collection[str] | None = None, columns: list[str] | None = None) -> pl.DataFrame:
    """RUNS rows, sorted by run_id; of the given runs and columns only, where given [one row a run]."""
    frame = pl.from_arrow(store.runs_table(columns))
    assert isinstance(frame, pl.DataFrame)
    if run_ids is not None:
        frame = frame.filter(pl.col("run_id").is_in(list(run_ids)))
    return frame.sort("run_id")


def metrics(store: Store, *, run_ids: Collection[str] | None = None) -> pl.LazyFrame:
    """METRICS rows of committed runs, unread until collected [one row a (run, step)].

    A row counts only where its (run_id, block) is in RUNS, so nothing of an attempt that was never committed is read. A
    block's file holds rows of its own runs alone, so blocks without any of the given runs are not opened, and
    blocks whose runs are all wanted need no look at each row. What is read is checked when it is.
    """
    ledger = runs(store, columns=["run_id", "block"])
    wanted = ledger if run_ids is None else ledger.filter(pl.col("run_id").is_in(list(run_ids)))
    whole = set(ledger["block"]) - set(ledger.join(wanted, on="run_id", how="anti")["block"])
    some = wanted.partition_by("block", as_dict=True)
    paths, files = list[Path](), list[pl.LazyFrame]()
    for path in store.metrics_paths([str(block) for (block,) in some]):
        if (part := some.get((Path(path).stem,))) is not None:
            paths.append(Path(path))
            rows = pl.scan_parquet(path).with_columns(pl.col("run_id", "block").cast(pl.String))
            is_whole = Path(path).stem in whole
            files.append(rows if is_whole else rows.filter(pl.col("run_id").is_in(part["run_id"].implode())))
    if not files:
        return pl.LazyFrame(schema=METRICS_SCHEMA | {"loss": pl.Float32, "accuracy": pl.Float32})
    return _checked(files, paths=paths)


def _checked(files: list[pl.LazyFrame], *, paths: list[Path]) -> pl.LazyFrame:
    """Rows of files whose checksums are compared when they are collected, of what is read; Polars compares none."""
    with _plainly(paths):
        rows = pl.concat(files, how="diagonal")
        schema = rows.collect_schema()

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        filtered = [] if predicate is None else predicate.meta.root_names()
        wanted = {*(schema if columns is None else columns), *filtered}
        for path in paths:
            verified(path, unread=set(schema) - wanted)
        found = rows if predicate is None else rows.filter(predicate)
        found = found if columns is None else found.select(columns)
        with _plainly(paths):
            yield from (found if n_rows is None else found.head(n_rows)).collect_batches(engine="streaming")

    return register_io_source(read, schema=schema)


@contextlib.contextmanager
def _plainly(paths: list[Path]) -> Iterator[None]:
    """Say of damaged files in one line which they are."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        for path in paths:
            verified(path)
        raise StoreError(f"{paths[0].parent}: not readable ({str(error).splitlines()[0]})") from None


def digest(
    store: Store, *, metric: str = "loss", run_ids: Collection[str] | None = None, bin_steps: int = BIN_STEPS
) -> pl.DataFrame:
    """One metric's digest of committed runs, as it was stored when each run ended.

    Runs without a stored digest (of a store from before there were any, or of another definition), and bins of
    another width, are made from METRICS, one block at a time.

    Args:
        store: the store.
        metric: a METRICS column.
        run_ids: of these runs only.
        bin_steps: the narrowest bin [steps].

    Returns:
        As `digest.digest` returns it.

    Raises:
        NoSuchColumn: no run of the store has the metric.
        StoreError: a curve is missing or damaged.

    Checked by: test_digest.py::test_a_stored_digest_has_the_bits_of_one_made_in_polars
    """
    for last in (False,) * (_MOST_TRIES - 1) + (True,):
        blocks = store.blocks()
        try:
            return _digest(store, metric=metric, run_ids=run_ids, bin_steps=bin_steps)
        except StoreError as error:
            if last or store.blocks() == blocks:  # no merge explains it
                plain = str(error).removesuffix(DOCTOR)
                raise StoreError(f"{plain}; `eureka doctor {store.path}` says what is wrong") from None
    raise AssertionError("the last try returns or raises")


def _digest(store: Store, *, metric: str, run_ids: Collection[str] | None, bin_steps: int) -> pl.DataFrame:
    trained = runs(store, run_ids=run_ids, columns=["run_id", "block", "steps"]).filter(pl.col("steps") > 0)
    stored, missing = pl.DataFrame(schema=DIGEST_SCHEMA), trained
    if bin_steps == BIN_STEPS:
        with contextlib.suppress(pl.exceptions.PolarsError, OSError):  # damaged: as if there were none
            stored, missing = _stored(store, metric=metric, trained=trained)
    parts = [stored]
    for (block,), part in missing.group_by("block", maintain_order=True):
        path = store.metrics_path(str(block))
        if metric in read_schema(path).names:
            parts.append(_made(path, metric=metric, runs=part, bin_steps=bin_steps))
    found = pl.concat(parts)
    if found.is_empty() and not trained.is_empty():  # no such metric, or no finite value of it
        blocks = trained["block"].unique()
        require_metric(metric, {name for block in blocks for name in read_schema(store.metrics_path(block)).names})
    return found.sort("run_id", "bin")


def _stored(store: Store, *, metric: str, trained: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The stored digests of a metric, and the runs that have none of any metric."""
    paths = fetch([store.digest_path(block) for block in trained["block"].unique().sort()])
    current = [verified(path) for path in paths if _is_current(path)]
    if not current:
        return pl.DataFrame(schema=DIGEST_SCHEMA), trained
    rows = pl.scan_parquet(current).join(trained.lazy(), on=["run_id", "block"], how="semi")
    found = _in_order(rows.filter(pl.col("metric") == metric).collect())
    missing = trained.join(found, on="run_id", how="anti")
    if not missing.is_empty():  # without a digest, or with one that lacks this metric?
        missing = missing.join(rows.select("run_id").unique().collect(), on="run_id", how="anti")
    return found, missing


def _is_current(path: File) -> bool:
    """Whether a digest file is there, readable, and of this definition."""
    try:
        return is_current(read_schema(path, is_scanned=True).metadata or {})
    except StoreError:
        return False


def _made(path: File, *, metric: str, runs: pl.DataFrame, bin_steps: int) -> pl.DataFrame:
    """A block's digest made from its curves."""
    curves = read_parquet(path, columns=["run_id", "step", metric], coded=("run_id",))
    steps = dict(runs.select("run_id", "steps").iter_rows())
    made = pl.from_arrow(digest_rows(curves, steps=steps, bin_steps=bin_steps))
    assert isinstance(made, pl.DataFrame)
    del curves
    pa.default_memory_pool().release_unused()  # or one block's buffers stay while the next is read
    return _in_order(made)


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in DIGEST_SCHEMA.items())
