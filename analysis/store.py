"""The store: the one place that knows paths. Ledger, metrics, digests, saved states, sweeps.

    STORE/eureka.json                    says that this directory is a store, and of which layout
    STORE/runs/BLOCK.parquet             ledger: the runs that were committed together
    STORE/metrics/BLOCK.parquet          their curves, whole: one row a (run_id, step)
    STORE/digests/BLOCK.parquet          the same curves as about a hundred bins each: what analyses read
    STORE/events/DETECTOR.parquet        what a detector said of them: a cache, which may be thrown away
    STORE/checkpoints/COHORT.npz         latest state of an unfinished cohort, by run
    STORE/snapshots/RUN-STEP.npz         a run's weights after so many updates, where its spec asks for them
    STORE/probes/BLOCK.parquet           what interventions on snapshots gave
    STORE/sweeps/NAME/…                  a sweep's record, resolved YAML, cohorts, reports; a search's study and trials

A run's curve is written when the run ends, under the same block name as its ledger row, so no
reader meets rows of an unfinished run. How a block joins the ledger, all or nothing, is the place's
business: a folder has a lock and a journal (`local_place.py`), a bucket a log (`object_place.py`). In
either, a run that is already in the ledger is dropped by whoever commits it again, so an attempt that
was given up for dead cannot double it. A digest can be missing (a store of before there were any) and is then made
from the curves by whoever asks, and kept by the next `compact`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.bins import digest_rows
from analysis.checkpoints import Checkpoints
from analysis.errors import StoreError
from analysis.files import (
    files_in,
    made,
    plainly,
    read_json,
    read_parquet,
    remove,
    write_bytes,
    write_json,
    write_parquet,
)
from analysis.places.object_path import File, fetch
from analysis.places.place import MARKER as _MARKER
from analysis.places.place import Stamp, T, place_of
from analysis.probes import Probes
from analysis.records import cohort_record, named, sweep_record
from analysis.rows import in_block, metrics_rows, new_block, runs_rows
from analysis.schema import SCHEMA_VERSION, unify
from analysis.snapshots import Snapshots

MARKER = {"schema_version": SCHEMA_VERSION, "checksums": True}  # of a store whose every file has its checksum
_MOST_TRIES = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Store:
    """A store on a local or shared file system, or in a bucket.

    Args:
        path: the store's directory or address, which must be one; `Store.create` makes it.
        waits: for a bucket that does not answer yet, since another process has just reached it.

    Raises:
        StoreError: there is no store, or one of a newer layout.
    """

    def __init__(self, path: str | os.PathLike[str] | File, *, waits: bool = False):
        self.place = place_of(str(path), waits=waits)
        self.path: File = self.place.path
        marker = self.path / _MARKER
        if isinstance(self.path, Path) and self.path.is_file():
            raise StoreError(f"{self.path}: a file, not a store; give another --store")
        if not isinstance(self.path, Path):
            self.stamps()  # says what is wrong where the bucket cannot be read at all
        try:
            version = read_json(marker)["schema_version"]
        except FileNotFoundError:
            raise StoreError(f"{self.path}: no store here; `eureka run SWEEP --store {self.path}` makes one") from None
        except (StoreError, KeyError) as error:
            way_out = f"`eureka doctor {self.path}` says more"
            raise StoreError(f"{marker}: not a store's marker ({plainly(error)}); {way_out}") from None
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer eureka (layout {version!r:.60}; this one knows {SCHEMA_VERSION})"
            )
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.snapshots = Snapshots(self.path / "snapshots")
        self.probes = Probes(self.path / "probes")
        self._seen: set[str] = set()
        self._status: dict[str, str] = {}

    @classmethod
    def create(cls, path: str | os.PathLike[str] | File) -> Store:
        """Open a store for writing; make it where there is nothing yet.

        Raises:
            StoreError: the place is not writable, or holds something that is not a store.
        """
        place = place_of(str(path))
        try:
            place.make(MARKER)
        except OSError as error:
            raise StoreError(f"{place.path}: cannot be written ({plainly(error)}); give another --store") from None
        return cls(place.path)

    # -- ledger and curves -------------------------------------------------------------------

    def statuses(self) -> dict[str, str]:
        """Every committed run and its status; reads only what is new since the last call."""
        for block, table in self._ledgers(columns=["run_id", "status"], but=self._seen).items():
            self._status.update(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
            self._seen.add(block)
        return self._status

    def runs_table(self, columns: list[str] | None = None) -> pa.Table:
        """RUNS: one row a committed run, dotted columns of all tasks side by side; ask for `run_id` among others."""
        table = unify(list(self._ledgers(columns=columns).values()))
        ids = table["run_id"]
        if len(ids.unique()) < len(ids):  # a merge under way shows a run in both its old and its new block
            first = pa.table({"run_id": ids, "row": np.arange(len(ids))}).group_by("run_id").aggregate([("row", "min")])
            table = table.take(first["row_min"].sort())
        return table

    def blocks(self) -> list[str]:
        """Names of the committed blocks, oldest first."""
        return list(self.stamps())

    def stamps(self) -> dict[str, Stamp]:
        """The committed blocks, oldest first; one with another stamp than before holds something else.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            return self.place.stamps()
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read ({plainly(error)})") from None

    def _ledgers(self, *, columns: list[str] | None, but: Collection[str] = ()) -> dict[str, pa.Table]:
        """The ledger by block, but for some; follows files that a merge moves meanwhile."""
        for last in (False,) * (_MOST_TRIES - 1) + (True,):
            blocks = [block for block in self.blocks() if block not in but]
            try:
                paths = fetch([self.runs_path(block) for block in blocks])
                return {path.stem: read_parquet(path, columns=columns) for path in paths}
            except StoreError:
                if last or blocks == [block for block in self.blocks() if block not in but]:
                    raise
        raise AssertionError("the last try returns or raises")

    def runs_path(self, block: str) -> File:
        """A block's ledger file."""
        return self.path / "runs" / f"{named(block, what='block')}.parquet"

    def metrics_path(self, block: str) -> File:
        """A block's curves; there is no file where all its runs failed."""
        return self.path / "metrics" / f"{named(block, what='block')}.parquet"

    def digest_path(self, block: str) -> File:
        """A block's digests; there may be no file, and then they are to be made from its curves."""
        return self.path / "digests" / f"{named(block, what='block')}.parquet"

    def events_path(self, detector: str) -> File:
        """What a detector said of the store's runs; there may be no file, and then it is asked again."""
        return self.path / "events" / f"{named(detector, what='detector')}.parquet"

    def metrics_paths(self, blocks: Collection[str] | None = None) -> list[str]:
        """METRICS files of committed blocks, or of some of them, in order; those of a bucket are copied here first."""
        committed = set(self.blocks() if blocks is None else blocks)
        paths = fetch([path for path in self.files("metrics") if path.stem in committed])
        return [str(path if isinstance(path, Path) else path.here()) for path in paths]

    def commit(
        self,
        runs: Sequence[Mapping[str, Any]],
        curves: Sequence[pa.Table],
        *,
        types: Mapping[str, type],
        may: Callable[[], object] = lambda: None,
    ) -> list[str]:
        """Add ended runs, all at once or not at all.

        Args:
            runs: RUNS rows by column name; `block`, `ended_at` and `schema_version` are filled in here.
            curves: METRICS rows of the runs (run_id, step, metrics), a table a run; failed runs have none.
            types: Python type of each dotted column, so that a column of nulls is typed, too.
            may: called when nobody else can write any more; raises where the writer has lost its licence meanwhile.

        Returns:
            The run_ids added: those that were not in the ledger yet.

        Raises:
            StoreError: the files could not be written; nothing was added.
        """

        def add() -> list[str]:
            may()
            known = self.statuses()
            fresh = {row["run_id"]: row for row in runs if row["run_id"] not in known}
            if fresh:
                block = new_block()
                stamp = {"ended_at": datetime.now(UTC), "schema_version": SCHEMA_VERSION}
                ledger = runs_rows([{**row, **stamp} for row in fresh.values()], types=types)
                curve_of = {table["run_id"][0].as_py(): table for table in curves}  # each once, whatever was handed in
                self.write_block(block, ledger, [curve_of[run] for run in fresh if run in curve_of])
                self.statuses()
            return list(fresh)

        return self.in_turn(add)

    def online_events(self, run_ids: Collection[str]) -> int:
        """How many of the runs had their event seen by the online rule."""
        table = unify(list(self._ledgers(columns=["run_id", "online_event_step"]).values()))
        rows = zip(table["run_id"].to_pylist(), table["online_event_step"].to_pylist(), strict=True)
        return len({run for run, step in rows if step is not None and run in run_ids})

    def forget_failed(self, run_ids: Collection[str]) -> None:
        """Take the failed rows of these runs out of the ledger, so that they are trained again."""

        def forget() -> None:
            again = {run for run, status in self.statuses().items() if status == "failed" and run in run_ids}
            for block in self.blocks() if again else ():
                table = read_parquet(self.runs_path(block))
                keep = pc.invert(pc.is_in(table["run_id"], pa.array(sorted(again))))
                if not pc.all(keep).as_py():
                    self.merge([block], table.filter(keep))
            for run in again:
                del self._status[run]

        self.in_turn(forget)

    def merge(self, blocks: Sequence[str], ledger: pa.Table) -> tuple[str, int]:
        """Put one block in place of several, with some of their runs; its name and METRICS rows. Only within a turn."""
        block, curves = new_block(), []
        for old in blocks:
            path = self.metrics_path(old)
            if path.exists():
                table = read_parquet(path)
                curves.append(table.filter(pc.is_in(table["run_id"], ledger["run_id"])))
        self.write_block(block, ledger.sort_by("run_id"), [table for table in curves if len(table)], replaces=blocks)
        return block, sum(map(len, curves))

    def write_block(
        self, block: str, ledger: pa.Table, curves: Sequence[pa.Table], *, replaces: Sequence[str] = ()
    ) -> None:
        """Put one block in place, metrics first; only within a turn, which makes StoreErrors of OSErrors.

        Args:
            block: its name.
            ledger: RUNS rows; their `block` is filled in here, as that of the curves is.
            curves: METRICS rows of the runs, in as many tables as you like, each run in one.
            replaces: blocks that leave the ledger when this one joins it.
        """
        ledger = in_block(ledger, block, column=ledger.schema.get_field_index("block"))

        def write() -> None:
            if curves:
                rows = metrics_rows(block, curves)
                write_parquet(self.metrics_path(block), rows)
                self.write_digest(block, ledger, rows)
            write_parquet(self.runs_path(block), ledger)

        self.place.publish(block, write=write, replaces=replaces)

    def write_digest(self, block: str, ledger: pa.Table, rows: pa.Table) -> None:
        """Put a block's digests in place; the caller holds the lock."""
        steps = dict(zip(ledger["run_id"].to_pylist(), ledger["steps"].to_pylist(), strict=True))
        made(self.path / "digests")
        write_parquet(self.digest_path(block), digest_rows(rows, steps=steps))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out for a moment; first settles what a killed writer left."""
        try:
            with self.place.locked():
                yield
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written ({plainly(error)})") from None

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do what reads the ledger and then adds to it, with nobody else's commit in between; may do it again.

        Raises:
            StoreError: the store cannot be written.
        """
        try:
            return self.place.in_turn(work)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written ({plainly(error)})") from None

    # -- sweeps ------------------------------------------------------------------------------

    def save_sweep(self, record: Mapping[str, Any]) -> None:
        """Write a sweep's record, and its resolved YAML beside it."""
        folder = made(self.sweep_dir(record["name"]))
        write_json(folder / "sweep.json", record, indent=1)
        write_bytes(folder / "sweep.yaml", str(record.get("yaml", "")).encode())

    def sweeps(self) -> list[str]:
        """Names of the sweeps that were run into this store."""
        try:
            return sorted(path.parent.name for path in (self.path / "sweeps").glob("*/sweep.json"))
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read ({plainly(error)})") from None

    def sweep(self, name: str) -> dict[str, Any]:
        """A sweep's record.

        Raises:
            StoreError: no such sweep, listing those there are.
        """
        path = self.sweep_dir(name) / "sweep.json"
        try:
            record = read_json(path)
        except FileNotFoundError:
            there = ", ".join(self.sweeps()) or "none yet"
            raise StoreError(f"{self.path}: no sweep named '{name}'; there are: {there}") from None
        except StoreError as error:
            raise StoreError(f"not a sweep's record: {error}; `eureka doctor {self.path}` says more") from None
        return sweep_record(record, path=path)

    def sweep_dir(self, name: str) -> File:
        """Where a sweep's own files lie."""
        if not _NAME.fullmatch(name):
            raise StoreError(f"sweep name: got '{name}'; expected letters, digits, '-', '_', '.'")
        return self.path / "sweeps" / name

    def save_trials(self, sweep: str, table: pa.Table) -> None:
        """Replace the table of a search's trials."""
        write_parquet(made(self.sweep_dir(sweep)) / "trials.parquet", table)

    def trials(self, sweep: str) -> pa.Table | None:
        """TRIALS: one row a trial of a search; None where the sweep is none, or has asked nothing yet."""
        path = self.sweep_dir(sweep) / "trials.parquet"
        return read_parquet(path) if path.exists() else None

    def save_cohort(self, sweep: str, cohort: str, record: Mapping[str, Any]) -> None:
        """Write what a worker needs to know of a cohort."""
        folder = made(self.sweep_dir(sweep) / "cohorts")
        write_json(folder / f"{cohort}.json", record)

    def cohort(self, sweep: str, cohort: str) -> dict[str, Any]:
        """What `save_cohort` wrote."""
        path = self.sweep_dir(sweep) / "cohorts" / f"{cohort}.json"
        return cohort_record(read_json(path), path=path)

    def drop_cohort(self, sweep: str, cohort: str) -> None:
        """Forget a cohort that is done."""
        remove(self.sweep_dir(sweep) / "cohorts" / f"{cohort}.json")

    def drop_attempts(self, sweep: str, *, token: str = "") -> None:
        """Take back the licences of all attempts at a sweep's cohorts, or of one command's; the caller has the lock."""
        there: Sequence[File] = list(
            (self.sweep_dir(sweep) / "cohorts").glob(f"*.{token}.*.json" if token else "*.json")
        )
        for path in there:
            remove(path)
        if there:
            self.place.fence()  # or one that has just shown its licence could still commit

    def files(self, part: str, suffix: str = ".parquet") -> list[File]:
        """Whole files of one part of the store, by name; of the ledger, those that count.

        Raises:
            StoreError: the store cannot be read.
        """
        if part == "runs":
            return [self.runs_path(block) for block in self.blocks()]
        return files_in(self.path / part, suffix)
