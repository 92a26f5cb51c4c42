"""The ledger as it grows: each of its files is read once, and each run is judged once.

Ledger files do not change once they are there, but for two cases: `compact` puts one in place of several, and
`--retry-failed` takes rows out of one. So a file is known by its name, size and time; what came of a run's curve is
known by the run, whichever file holds it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from time import monotonic

import polars as pl

from analysis.bins import digest_rows, is_current
from analysis.detect import EVENTS_SCHEMA, Detector, events_of
from analysis.digest import DIGEST_SCHEMA
from analysis.errors import AnalysisError, StoreError
from analysis.files import read_parquet, read_schema
from analysis.kept_events import kept_events
from analysis.places.place import Stamp
from analysis.schema import RUNS, schema
from analysis.store import Store
from analysis.vouched import verified

UNREAD = ("spec", "traceback", "versions")  # long texts, read when one run is looked at
BATCH_RUNS = 1000  # judged in one go
LAST: dict[str, pl.DataType] = {"final_value": pl.Float64()}  # of the detector's metric, in a run's last bin


class Ledger:
    """A store's committed runs, and what a detector says of them.

    Attributes:
        detector: who judges.
        rows: RUNS rows, but for the UNREAD columns [one row a run].
        events: EVENTS rows of the runs judged so far, with `final_value`.
        unread: ledger files that are there and not yet read.
        problems: what could not be read or judged, in one line each, by file or run.
        rows_version, version: grow with every change of the rows, of the rows or events.
    """

    def __init__(self, store: Store, *, detector: Detector):
        self._store, self.detector = store, detector
        self._files: dict[str, Stamp] = {}
        self.rows = _frame_of_nothing()
        self.events = pl.DataFrame(schema=EVENTS_SCHEMA | LAST)
        self.unread = 0
        self.problems: dict[str, str] = {}
        self.rows_version = self.version = 0
        self._unjudged = self.rows.select("run_id")
        self._kept: pl.DataFrame | None = None

    def read_new(self, *, most_s: float = 0.5) -> None:
        """Read files that are new, for about so long; `unread` says how many are left."""
        there = self._store.stamps()
        self._forget({name for name, stamp in self._files.items() if there.get(name) != stamp})
        new = [name for name in there if name not in self._files]
        until = monotonic() + most_s
        frames: list[pl.DataFrame] = []
        for name in new:
            if frames and monotonic() > until:
                break
            with contextlib.suppress(FileNotFoundError):
                frames.append(self._read(name))
            self._files[name] = there[name]
        self.unread = sum(name not in self._files for name in new)
        if any(map(len, frames)):
            rows = pl.concat([self.rows, *frames], how="diagonal_relaxed")
            self.rows = rows.unique("run_id", keep="first", maintain_order=True)  # a merge under way shows some twice
            self._settle()

    def judge_some(self) -> bool:
        """Judge some runs that were not, the latest first, or take over what the store keeps of them.

        Returns:
            Whether there were any.
        """
        if self._unjudged.is_empty():
            return False
        if self._take_kept():
            return True
        batch = self._unjudged.tail(BATCH_RUNS)
        rows = self.rows.join(batch, on="run_id", how="semi")
        self.events = pl.concat([self.events, *self._judged(rows)])
        self._unjudged = self._unjudged.head(len(self._unjudged) - len(batch))
        self.version += 1
        return True

    def _take_kept(self) -> bool:
        """Take over every judgement that the store kept when it was first looked at; whether there was one."""
        if self._kept is None:
            self._kept = kept_events(self._store, self.detector)
        if self._kept.is_empty():
            return False
        rows = self.rows.select("run_id", "block").join(self._unjudged, on="run_id", how="semi")
        found = self._kept.join(rows, on=["run_id", "block"], how="semi")
        self._kept = self._kept.join(rows, on="run_id", how="anti")
        if found.is_empty():
            return False
        self.events = pl.concat([self.events, found.select(self.events.columns)])
        self._settle()
        return True

    @property
    def pending(self) -> int:
        """Runs that wait for their judgement."""
        return len(self._unjudged)

    def _read(self, block: str) -> pl.DataFrame:
        path = self._store.runs_path(block)
        try:
            names = [name for name in read_schema(path).names if name not in UNREAD]
            frame = pl.from_arrow(read_parquet(path, columns=names))
        except StoreError as error:
            if path.exists():
                self.problems[block] = str(error)
            return _frame_of_nothing()
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _forget(self, blocks: set[str]) -> None:
        """Files that are gone, or other files now; failed runs may be trained again, so they are judged again."""
        if not blocks:
            return
        for block in blocks:
            del self._files[block]
            self.problems.pop(block, None)
        self.rows = self.rows.filter(~pl.col("block").is_in(list(blocks)))
        self.events = self.events.filter(pl.col("status") != "failed")
        self._settle()

    def _settle(self) -> None:
        left = self.rows.select("run_id").join(self.events, on="run_id", how="anti")
        self._unjudged = left.filter(~pl.col("run_id").is_in(list(self.problems)))
        self.rows_version += 1
        self.version += 1

    def _judged(self, rows: pl.DataFrame) -> list[pl.DataFrame]:
        """EVENTS of some runs; where that fails, of those for which it does not."""
        try:
            digest = self._digest(rows)
            events = events_of(digest, runs=rows, detector=self.detector)
            last = digest.group_by("run_id").agg(final_value=pl.col("value").sort_by("bin").last())
            return [events.join(last, on="run_id", how="left", maintain_order="left")]
        except (AnalysisError, pl.exceptions.PolarsError, OSError) as error:
            if len(rows) > 1:
                half = len(rows) // 2
                return [*self._judged(rows[:half]), *self._judged(rows[half:])]
            run = str(rows["run_id"][0])
            self.problems[run] = f"run {run}: {str(error).splitlines()[0]}"
            return []

    def _digest(self, rows: pl.DataFrame) -> pl.DataFrame:
        trained = rows.filter(pl.col("steps") > 0).partition_by("block", as_dict=True)
        metric = self.detector.metric
        parts = [run_digest(self._store, str(key[0]), runs=part, metric=metric) for key, part in trained.items()]
        return pl.concat([pl.DataFrame(schema=DIGEST_SCHEMA), *parts]).sort("run_id", "bin")


def run_digest(store: Store, block: str, *, runs: pl.DataFrame, metric: str | None = None) -> pl.DataFrame:
    """The digest of some runs of one block, as stored; made from their curves where none is.

    Args:
        store: the store.
        block: holds them.
        runs: their `run_id` and `steps`.
        metric: which; without one all, in a column more.

    Returns:
        As `analysis.digest.digest` returns it.

    Raises:
        StoreError: a curve is missing or damaged.
    """
    path, wanted = store.digest_path(block), runs["run_id"].implode()
    try:
        frame = pl.scan_parquet(verified(path)) if is_current(read_schema(path).metadata or {}) else None
    except StoreError:
        frame = None
    if frame is None:
        keys = None if metric is None else ["run_id", "step", metric]
        curves = read_parquet(store.metrics_path(block), columns=keys, coded=("run_id",))
        made = pl.from_arrow(digest_rows(curves, steps=dict(runs.select("run_id", "steps").iter_rows())))
        assert isinstance(made, pl.DataFrame)
        frame = made.lazy()
    rows = frame.filter(pl.col("run_id").cast(pl.String).is_in(wanted))
    rows = rows if metric is None else rows.filter(pl.col("metric") == metric)
    keep = [pl.col(name).cast(dtype) for name, dtype in DIGEST_SCHEMA.items()]
    more: Sequence[pl.Expr] = [pl.col("metric").cast(pl.String)] if metric is None else []
    return rows.select(*keep, *more).collect()


def _frame_of_nothing() -> pl.DataFrame:
    frame = pl.from_arrow(schema(RUNS).empty_table().drop_columns(list(UNREAD)))
    assert isinstance(frame, pl.DataFrame)
    return frame
