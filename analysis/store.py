"""The store: the one place that knows paths. Ledger, metrics, digests, saved states, sweeps.

    STORE/eureka.json                    says that this directory is a store, and of which layout
    STORE/runs/BLOCK.parquet             ledger: the runs that were committed together
    STORE/metrics/BLOCK.parquet          their curves, whole: one row a (run_id, step)
    STORE/digests/BLOCK.parquet          the same curves as about a hundred bins each: what analyses read
    STORE/checkpoints/COHORT.npz         latest state of an unfinished cohort, by run
    STORE/snapshots/RUN-STEP.npz         a run's weights after so many updates, where its spec asks for them
    STORE/probes/BLOCK.parquet           what interventions on snapshots gave
    STORE/sweeps/NAME/…                  a sweep's record, resolved YAML, cohorts, reports; a search's study and trials

A run's curve is written when the run ends, under the same block name as its ledger row, so no
reader meets rows of an unfinished run. A commit holds the store's lock, notes its block in a
journal, renames the metrics and their digests into place, then the ledger file, then clears the
journal: whoever takes the lock next finishes or removes what a killed writer left. A run that is
already in the ledger is dropped under the same lock, so an attempt that was given up for dead
cannot double it. A digest can be missing (a store of before there were any) and is then made
from the curves by whoever asks, and kept by the next `compact`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.bins import digest_rows
from analysis.errors import StoreError
from analysis.files import aside, made, plainly, read_arrays, read_parquet, write_bytes, write_parquet
from analysis.probes import Probes
from analysis.schema import RUNS, SCHEMA_VERSION, schema, spec_column, unify
from analysis.snapshots import Snapshots

_MARKER = "eureka.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Store:
    """A store on a local or shared file system.

    Args:
        path: the store's directory, which must be one; `Store.create` makes it.

    Raises:
        StoreError: there is no store, or one of a newer layout.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = local_path(path)
        marker = self.path / _MARKER
        try:
            version = json.loads(marker.read_text())["schema_version"]
        except FileNotFoundError:
            raise StoreError(f"{self.path}: no store here; `eureka run SWEEP --store {self.path}` makes one") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{marker}: not a store's marker ({plainly(error)})") from None
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer eureka (layout {version}; this one knows {SCHEMA_VERSION})"
            )
        self.snapshots = Snapshots(self.path / "snapshots")
        self.probes = Probes(self.path / "probes")
        self._seen: set[str] = set()
        self._status: dict[str, str] = {}

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Store:
        """Open a store for writing; make it where there is nothing yet.

        Raises:
            StoreError: the place is not writable, or holds something that is not a store.
        """
        root = local_path(path)
        try:
            if root.exists() and not root.is_dir():
                raise StoreError(f"{root}: a file, not a store; give another --store")
            root.mkdir(parents=True, exist_ok=True)
            marker = root / _MARKER
            own = (".lock", f".{_MARKER}.")  # the second: another process is making the same store
            strangers = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(own))
            if strangers and not marker.exists():
                raise StoreError(f"{root}: not a store, and not empty ({strangers[0]} …); give another --store")
            with (root / ".lock").open("a"):
                pass
            if not marker.exists():
                write_bytes(marker, json.dumps({"schema_version": SCHEMA_VERSION}).encode())
            for part in ("runs", "metrics", "digests", "checkpoints", "sweeps"):
                (root / part).mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"{root}: cannot be written ({plainly(error)}); give another --store") from None
        return cls(root)

    # -- ledger and curves -------------------------------------------------------------------

    def statuses(self) -> dict[str, str]:
        """Every committed run and its status; reads only what is new since the last call."""
        for path in self.files("runs"):
            if path.name not in self._seen:
                table = read_parquet(path, columns=["run_id", "status"])
                self._status.update(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
                self._seen.add(path.name)
        return self._status

    def runs_table(self, columns: list[str] | None = None) -> pa.Table:
        """RUNS: one row a committed run, dotted columns of all tasks side by side; ask for `run_id` among others."""
        table = unify([read_parquet(path, columns=columns) for path in self.files("runs")])
        ids = table["run_id"]
        if len(ids.unique()) < len(ids):  # a merge under way shows a run in both its old and its new block
            first = pa.table({"run_id": ids, "row": np.arange(len(ids))}).group_by("run_id").aggregate([("row", "min")])
            table = table.take(first["row_min"].sort())
        return table

    def blocks(self) -> list[str]:
        """Names of the committed blocks, oldest first."""
        return [path.stem for path in self.files("runs")]

    def runs_path(self, block: str) -> Path:
        """A block's ledger file."""
        return self.path / "runs" / f"{block}.parquet"

    def metrics_path(self, block: str) -> Path:
        """A block's curves; there is no file where all its runs failed."""
        return self.path / "metrics" / f"{block}.parquet"

    def digest_path(self, block: str) -> Path:
        """A block's digests; there may be no file, and then they are to be made from its curves."""
        return self.path / "digests" / f"{block}.parquet"

    def metrics_paths(self) -> list[str]:
        """METRICS files that belong to a ledger file, in order."""
        committed = set(self.blocks())
        return [str(path) for path in self.files("metrics") if path.stem in committed]

    def commit(
        self, runs: Sequence[Mapping[str, Any]], curves: Sequence[pa.Table], *, types: Mapping[str, type]
    ) -> list[str]:
        """Add ended runs, all at once or not at all.

        Args:
            runs: RUNS rows by column name; `block`, `ended_at` and `schema_version` are filled in here.
            curves: METRICS rows of the runs (run_id, step, metrics), a table a run; failed runs have none.
            types: Python type of each dotted column, so that a column of nulls is typed, too.

        Returns:
            The run_ids added: those that were not in the ledger yet.

        Raises:
            StoreError: the files could not be written; nothing was added.
        """
        with self.locked():
            known = self.statuses()
            fresh = {row["run_id"]: row for row in runs if row["run_id"] not in known}
            if fresh:
                block = new_block()
                stamp = {"block": block, "ended_at": datetime.now(UTC), "schema_version": SCHEMA_VERSION}
                ledger = runs_rows([{**row, **stamp} for row in fresh.values()], types=types)
                wanted = [table for table in curves if table["run_id"][0].as_py() in fresh]
                self.write_block(block, ledger, wanted)
                self.statuses()
        return list(fresh)

    def online_events(self, run_ids: Collection[str]) -> int:
        """How many of the runs had their event seen by the online rule."""
        table = unify([read_parquet(path, columns=["run_id", "online_event_step"]) for path in self.files("runs")])
        rows = zip(table["run_id"].to_pylist(), table["online_event_step"].to_pylist(), strict=True)
        return len({run for run, step in rows if step is not None and run in run_ids})

    def forget_failed(self, run_ids: Collection[str]) -> None:
        """Take the failed rows of these runs out of the ledger, so that they are trained again."""
        with self.locked():
            again = {run for run, status in self.statuses().items() if status == "failed" and run in run_ids}
            for path in self.files("runs") if again else ():
                table = read_parquet(path)
                keep = pc.invert(pc.is_in(table["run_id"], pa.array(sorted(again))))
                if not pc.all(keep).as_py():
                    write_parquet(path, table.filter(keep))
            for run in again:
                del self._status[run]

    def write_block(
        self, block: str, ledger: pa.Table, curves: Sequence[pa.Table], *, replaces: Sequence[str] = ()
    ) -> None:
        """Put one block in place, metrics first; the caller holds the lock, which turns OSErrors into StoreErrors."""
        write_bytes(self.path / ".pending", json.dumps({"block": block, "replaces": list(replaces)}).encode())
        if curves:
            rows = metrics_rows(block, curves)
            write_parquet(self.metrics_path(block), rows)
            self.write_digest(block, ledger, rows)
        write_parquet(self.runs_path(block), ledger)
        self._settle(block, replaces)

    def write_digest(self, block: str, ledger: pa.Table, rows: pa.Table) -> None:
        """Put a block's digests in place; the caller holds the lock."""
        steps = dict(zip(ledger["run_id"].to_pylist(), ledger["steps"].to_pylist(), strict=True))
        made(self.path / "digests")
        write_parquet(self.digest_path(block), digest_rows(rows, steps=steps))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store's writing lock; first settles what a killed writer left."""
        try:
            with (self.path / ".lock").open("a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):
                    pending = json.loads((self.path / ".pending").read_text())
                    self._settle(pending["block"], pending["replaces"])
                yield
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written ({plainly(error)})") from None

    def _settle(self, block: str, replaces: Sequence[str]) -> None:
        """Keep a block whose ledger file is in place, remove one without; then clear the journal."""
        if self.runs_path(block).exists():
            for old in replaces:
                self.runs_path(old).unlink(missing_ok=True)
                self._drop_curves(old)
        else:
            self._drop_curves(block)
        (self.path / ".pending").unlink(missing_ok=True)

    def _drop_curves(self, block: str) -> None:
        self.metrics_path(block).unlink(missing_ok=True)
        self.digest_path(block).unlink(missing_ok=True)

    # -- saved states of unfinished runs -----------------------------------------------------

    def save_states(self, cohort: str, states: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Replace a cohort's checkpoint with the states of its running members, by run_id."""
        path = self.path / "checkpoints" / f"{cohort}.npz"
        arrays: dict[str, Any] = {
            f"{run}/{name}": array for run, state in states.items() for name, array in state.items()
        }
        with aside(path) as handle:
            np.savez(handle, **arrays)

    def saved_states(self) -> dict[str, tuple[Path, int]]:
        """Where the furthest saved state of each unfinished run lies, and its step."""
        best: dict[str, tuple[Path, int]] = {}
        for path in self.files("checkpoints", ".npz"):
            with contextlib.suppress(StoreError), read_arrays(path) as arrays:
                for run in {name.partition("/")[0] for name in arrays.files}:
                    step = int(arrays[f"{run}/step"])
                    if run not in best or best[run][1] < step:
                        best[run] = (path, step)
        return best

    def load_state(self, run_id: str, path: Path) -> dict[str, np.ndarray] | None:
        """A run's state from a checkpoint; None when the file is gone or damaged."""
        prefix = f"{run_id}/"
        with contextlib.suppress(StoreError), read_arrays(path) as arrays:
            return {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
        return None

    def drop_states(self, cohort: str) -> None:
        """Forget a cohort's checkpoint."""
        (self.path / "checkpoints" / f"{cohort}.npz").unlink(missing_ok=True)

    def drop_spent_states(self) -> None:
        """Forget checkpoints whose runs are all in the ledger."""
        done = self.statuses().keys()
        for path in self.files("checkpoints", ".npz"):
            with contextlib.suppress(StoreError), read_arrays(path) as arrays:
                if {name.partition("/")[0] for name in arrays.files} <= done:
                    path.unlink(missing_ok=True)

    # -- sweeps ------------------------------------------------------------------------------

    def save_sweep(self, record: Mapping[str, Any]) -> None:
        """Write a sweep's record, and its resolved YAML beside it."""
        folder = made(self.sweep_dir(record["name"]))
        write_bytes(folder / "sweep.json", json.dumps(record, indent=1).encode())
        write_bytes(folder / "sweep.yaml", str(record.get("yaml", "")).encode())

    def sweeps(self) -> list[str]:
        """Names of the sweeps that were run into this store."""
        return sorted(path.parent.name for path in (self.path / "sweeps").glob("*/sweep.json"))

    def sweep(self, name: str) -> dict[str, Any]:
        """A sweep's record.

        Raises:
            StoreError: no such sweep, listing those there are.
        """
        path = self.sweep_dir(name) / "sweep.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            there = ", ".join(self.sweeps()) or "none yet"
            raise StoreError(f"{self.path}: no sweep named '{name}'; there are: {there}") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: not a sweep's record ({plainly(error)})") from None
        return record

    def sweep_dir(self, name: str) -> Path:
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
        write_bytes(folder / f"{cohort}.json", json.dumps(record).encode())

    def cohort(self, sweep: str, cohort: str) -> dict[str, Any]:
        """What `save_cohort` wrote."""
        record: dict[str, Any] = json.loads((self.sweep_dir(sweep) / "cohorts" / f"{cohort}.json").read_text())
        return record

    def drop_cohort(self, sweep: str, cohort: str) -> None:
        """Forget a cohort that is done."""
        (self.sweep_dir(sweep) / "cohorts" / f"{cohort}.json").unlink(missing_ok=True)

    def files(self, part: str, suffix: str = ".parquet") -> list[Path]:
        """Whole files of one part of the store, by name."""
        with contextlib.suppress(FileNotFoundError):
            names = [entry.name for entry in os.scandir(self.path / part)]
            return [self.path / part / name for name in sorted(names) if name.endswith(suffix) and name[0] != "."]
        return []


def local_path(path: str | os.PathLike[str]) -> Path:
    """A store's address as a path.

    Raises:
        StoreError: the address is of another kind.
    """
    text = os.fspath(path)
    if "://" in text and not text.startswith("file://"):
        raise StoreError(f"{text}: stores on object storage are not supported yet; give a local or mounted path")
    return Path(text.removeprefix("file://")).expanduser().absolute()


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
    table = unify(sorted(curves, key=lambda curve: curve["run_id"][0].as_py()))
    if "block" in table.column_names:
        table = table.drop_columns("block")
    return table.add_column(1, "block", pa.repeat(block, len(table)))


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
