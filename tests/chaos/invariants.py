"""What must be true of a store at any moment, and of a finished one: held against an undisturbed one, bit by bit."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.errors import StoreError
from analysis.files import read_arrays, read_json
from analysis.schema import PROVENANCE
from analysis.store import Store
from analysis.upkeep import check


class Undisturbed:
    """What a sweep's tables are when nothing happens.

    Args:
        path: of a store into which it was run.
    """

    def __init__(self, path: Path | str):
        self.runs, self.curves, self.snapshots = rows_of(path), curves_of(path), snapshots_of(path)
        self.steps = sum(int(row["steps"]) for row in self.runs.values())

    def objections(self, path: Path | str, *, is_done: bool, is_alive: bool = False) -> list[str]:
        """Everything in which another store differs where it must not.

        Args:
            path: of the store.
            is_done: nothing may lack.
            is_alive: a command adds to it meanwhile.
        """
        found = _doubled(path)
        runs, curves, snapshots = rows_of(path), curves_of(path), snapshots_of(path)
        if not is_done:  # what ran out of memory is asked for again in the end
            runs = {run: row for run, row in runs.items() if row["status"] != "'failed'"}
        for run, row in runs.items():
            there = self.runs.get(run)
            if there is None:
                found.append(f"run {run}: is of no sweep")
                continue
            wrong = [name for name in row if row[name] != there.get(name)]
            found += [f"run {run}: {name} is {row[name]}; undisturbed it is {there.get(name)}" for name in wrong]
            if curves.get(run) != self.curves.get(run):
                found.append(f"run {run}: its curve is not that of the undisturbed run")
        found += [f"run {run}: has a curve, and no row" for run in curves.keys() - runs.keys() if not is_alive]
        found += [
            f"snapshot {name}: other weights" for name in snapshots if snapshots[name] != self.snapshots.get(name)
        ]
        if is_done:
            found += [f"run {run}: lost" for run in self.runs.keys() - runs.keys()]
            found += [f"snapshot {name}: lost" for name in self.snapshots.keys() - snapshots.keys()]
        return found


def promises(path: Path | str) -> list[str]:
    """What the store's own check has to say, less what a kill leaves by design: a block on its way, noted."""
    try:
        block = read_json(Path(path) / ".pending")["block"]
    except (OSError, StoreError, KeyError):
        return check(Store(path))
    return [problem for problem in check(Store(path)) if str(block) not in problem]


def leftovers(path: Path, *, sweep: str) -> list[str]:
    """Files that a finished sweep has no use for."""
    folder = path / "sweeps" / sweep
    places = [path / "checkpoints", folder / "claims", folder / "cohorts"]
    there = [file for place in places if place.exists() for file in place.iterdir() if not file.name.endswith(".tmp")]
    return [f"{file.relative_to(path)}: left behind" for file in there]


def rows_of(path: Path | str) -> dict[str, dict[str, str]]:
    """RUNS rows by run, without provenance; values as text, so that nan equals nan, and null is not 0."""
    table = Store(path).runs_table()
    if not len(table):
        return {}
    rows = table.drop_columns([name for name in PROVENANCE if name in table.column_names]).to_pylist()
    return {row["run_id"]: {name: repr(value) for name, value in row.items()} for row in rows}


def curves_of(path: Path | str) -> dict[str, str]:
    """A digest of each run's METRICS rows, bit by bit, steps in order."""
    found: dict[str, str] = {}
    for name in Store(path).metrics_paths():
        found |= _curves_in(str(name), _stamp(Path(name)))
    return found


def snapshots_of(path: Path | str) -> dict[str, str]:
    """A digest of each snapshot's arrays."""
    snapshots = Store(path).snapshots
    files = {f"{run}-{step}": snapshots.path(run, step) for run, step in snapshots.there()}
    return {name: _arrays_in(str(file), _stamp(file)) for name, file in files.items()}


def safe_steps(path: Path | str) -> int:
    """Run-steps that a crash now would not cost."""
    try:
        store = Store(path)
        rows = store.runs_table(columns=["run_id", "steps"]).to_pylist()
        saved = store.checkpoints.furthest()
    except (StoreError, KeyError):  # not made yet, or empty
        return 0
    done = {row["run_id"]: row["steps"] for row in rows}
    return sum(done.values()) + sum(step for run, (_, step) in saved.items() if run not in done)


def _doubled(path: Path | str) -> list[str]:
    """As a stranger reads the files, with any Parquet reader: each run once, each step of a run once."""
    store = Store(path)
    blocks = [file if isinstance(file, Path) else Path(file.here()) for file in store.files("runs")]
    ledger = Counter(run for file in blocks for run in _runs_in(str(file), _stamp(file)))
    curves = Counter(run for name in store.metrics_paths() for run in _curves_in(str(name), _stamp(Path(name))))
    found = [f"run {run}: {n} ledger rows" for run, n in ledger.items() if n > 1]
    found += [f"run {run}: its steps are in {n} files" for run, n in curves.items() if n > 1]
    return found + [problem for name in store.metrics_paths() for problem in _twice_in(str(name), _stamp(Path(name)))]


# A file that was not replaced is read once: blocks never change, and most faults add a few.

Stamped = tuple[int, int, int]


def _stamp(path: Path) -> Stamped:
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


@functools.lru_cache(maxsize=5000)
def _runs_in(name: str, stamp: Stamped) -> tuple[str, ...]:
    return tuple(pq.ParquetFile(name).read(columns=["run_id"])["run_id"].to_pylist())


@functools.lru_cache(maxsize=5000)
def _twice_in(name: str, stamp: Stamped) -> tuple[str, ...]:
    table = pq.ParquetFile(name).read(columns=["run_id", "step"])
    counts = table.group_by(["run_id", "step"]).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))["run_id"].unique().to_pylist()
    return tuple(f"run {run}: has a step twice" for run in twice)


@functools.lru_cache(maxsize=5000)
def _curves_in(name: str, stamp: Stamped) -> dict[str, str]:
    table = pq.ParquetFile(name).read().drop_columns("block")
    found = {}
    for run in table["run_id"].unique().to_pylist():
        rows = table.filter(pc.equal(table["run_id"], run)).drop_columns("run_id").sort_by("step")
        found[run] = _digest(rows)
    return found


@functools.lru_cache(maxsize=5000)
def _arrays_in(name: str, stamp: Stamped) -> str:
    with read_arrays(Path(name)) as arrays:
        whole = b"".join(each.encode() + arrays[each].tobytes() for each in sorted(arrays.files))
    return hashlib.sha256(whole).hexdigest()


def _digest(rows: pa.Table) -> str:
    whole = hashlib.sha256()
    for name in sorted(rows.column_names):
        column = rows[name].combine_chunks()
        values = column.to_numpy(zero_copy_only=False)
        whole.update(name.encode())
        whole.update(np.asarray(column.is_null()).tobytes())
        whole.update(np.where(np.asarray(column.is_null()), 0, values).astype(values.dtype).tobytes())
    return whole.hexdigest()
