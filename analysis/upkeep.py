"""Keeping a store in order: merging its small files, and checking every promise that it makes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.bins import digest_rows, is_current
from analysis.errors import StoreError
from analysis.files import read_arrays, read_parquet, read_schema
from analysis.schema import RUNS, unify
from analysis.store import Store, new_block

_DIGEST_ORDER = [("metric", "ascending"), ("run_id", "ascending"), ("bin", "ascending")]
DRAFT_S = 3600.0  # an unfinished file this old is nobody's
MERGED_ROWS = 4_000_000  # METRICS rows of a merged block: about 150 MB while it is being written


@dataclass(frozen=True)
class Merge:
    """What `compact` did: files of the ledger before and after, and METRICS rows moved."""

    before: int
    after: int
    rows: int


def compact(store: Store) -> Merge:
    """Merge blocks into few, each run's rows together and in step order; make the digests that are missing.

    The store stays readable throughout: a merged block is in place before its parts go.
    """
    with store.locked():
        _drop_drafts(store)
        blocks = store.blocks()
        _drop_strays(store, blocks)
        rows = 0
        for group in _groups(store, blocks):
            if len(group) > 1:
                rows += _merge(store, group)
            else:
                _complete(store, group[0])
        return Merge(before=len(blocks), after=len(store.blocks()), rows=rows)


def _groups(store: Store, blocks: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    rows = 0
    for block in blocks:
        path = store.metrics_path(block)
        size = pq.read_metadata(path).num_rows if path.exists() else 0
        if group and rows + size > MERGED_ROWS:
            yield group
            group, rows = [], 0
        group.append(block)
        rows += size
    if group:
        yield group


def _merge(store: Store, group: list[str]) -> int:
    """Write one block in place of several; the caller holds the lock."""
    block = new_block()
    ledger = unify([read_parquet(store.runs_path(old)) for old in group])
    runs = ledger["run_id"]
    curves = []
    for old in group:
        path = store.metrics_path(old)
        if path.exists():
            table = read_parquet(path)
            curves.append(table.filter(pc.is_in(table["run_id"], runs)))
    position = ledger.schema.get_field_index("block")
    ledger = ledger.set_column(position, ledger.schema.field("block"), pa.array([block] * len(ledger)))
    store.write_block(block, ledger.sort_by("run_id"), curves, replaces=group)
    return sum(map(len, curves))


def _complete(store: Store, block: str) -> None:
    """Write a block's digests if it has none of this definition; the caller holds the lock."""
    path = store.metrics_path(block)
    with contextlib.suppress(StoreError):
        if is_current(read_schema(store.digest_path(block)).metadata or {}):
            return
    if path.exists():
        store.write_digest(block, read_parquet(store.runs_path(block)), read_parquet(path))


def _drop_strays(store: Store, blocks: list[str]) -> None:
    """Remove digests of blocks that are not in the ledger: they can be made again from curves that are."""
    for path in store.files("digests"):
        if path.stem not in blocks:
            path.unlink(missing_ok=True)


def check(store: Store) -> list[str]:
    """Every broken promise of a store, in plain words; empty when there is none."""
    problems = _journal(store)
    seen: dict[str, str] = {}
    for block in store.blocks():
        try:
            ledger = read_parquet(store.runs_path(block))
        except StoreError as error:
            problems.append(str(error))
            continue
        missing = [column.name for column in RUNS if column.name not in ledger.schema.names]
        if missing:
            problems.append(f"runs/{block}.parquet: no column {', '.join(missing)}")
            continue
        for run in ledger["run_id"].to_pylist():
            if run in seen:
                problems.append(f"run {run}: committed twice, in blocks {seen[run]} and {block}")
            seen[run] = block
        problems += _curves(store, block, ledger)
    orphans = {path.stem for path in store.files("metrics")} - set(store.blocks())
    for block in sorted(orphans):
        problems.append(f"metrics/{block}.parquet: belongs to no ledger file; its rows are no one's")
    strays = {path.stem for path in store.files("digests")} - set(store.blocks())
    problems += [f"digests/{block}.parquet: belongs to no ledger file" for block in sorted(strays)]
    return problems + _checkpoints(store) + _snapshots(store) + _probes(store) + _sweeps(store)


def _curves(store: Store, block: str, ledger: pa.Table) -> list[str]:
    """Each run of a block must have each of its steps exactly once."""
    trained = ledger.filter(pc.field("status") != "failed")
    expected = dict(zip(trained["run_id"].to_pylist(), trained["steps"].to_pylist(), strict=True))
    path = store.metrics_path(block)
    if not path.exists():
        return [f"metrics/{block}.parquet: missing; {len(expected)} runs have no curve"] if expected else []
    try:
        table = read_parquet(path)
    except StoreError as error:
        return [str(error)]
    problems = _digests(store, block, ledger, table)
    groups = pa.table({"run": table["run_id"], "step": table["step"]}).group_by("run").aggregate(
        [("step", "count"), ("step", "count_distinct"), ("step", "min"), ("step", "max")]
    )  # fmt: skip
    found = {row["run"]: row for row in groups.to_pylist()}
    for run, steps in expected.items():
        row = found.pop(run, None)
        whole = {"step_count": steps, "step_count_distinct": steps, "step_min": 0, "step_max": steps - 1}
        if row is None:
            problems.append(f"run {run}: has no row in metrics/{block}.parquet")
        elif row != {"run": run, **whole}:
            problems.append(f"run {run}: {row['step_count']} rows for {steps} steps in metrics/{block}.parquet")
    return problems + [f"run {run}: rows in metrics/{block}.parquet, but no ledger row there" for run in found]


def _digests(store: Store, block: str, ledger: pa.Table, curves: pa.Table) -> list[str]:
    """A digest that is there, and of this definition, must be that of the curves; none is no fault."""
    path = store.digest_path(block)
    if not path.exists():
        return []
    again = f"remove the file, and `eureka compact {store.path}` makes it again"
    try:
        stored = read_parquet(path)
    except StoreError as error:
        return [f"{error}; {again}"]
    steps = dict(zip(ledger["run_id"].to_pylist(), ledger["steps"].to_pylist(), strict=True))
    if not is_current(stored.schema.metadata or {}):
        return []
    made = digest_rows(curves, steps=steps)
    if stored.sort_by(_DIGEST_ORDER).equals(made.sort_by(_DIGEST_ORDER)):
        return []
    return [f"digests/{block}.parquet: is not the digest of metrics/{block}.parquet; {again}"]


def _journal(store: Store) -> list[str]:
    """A journal left over is a killed writer's; the next commit settles it."""
    journal = store.path / ".pending"
    if not journal.exists():
        return []
    try:
        block = json.loads(journal.read_text())["block"]
    except (OSError, ValueError, KeyError):
        return [".pending: not readable; remove it when nothing writes to the store"]
    return [f".pending: block {block} was left half-written; the next run into this store settles it"]


def _checkpoints(store: Store) -> list[str]:
    problems = []
    for path in store.files("checkpoints", ".npz"):
        try:
            with read_arrays(path) as arrays:
                for name in arrays.files:
                    arrays[name]  # reads it, and so checks its checksum
        except StoreError as error:
            problems.append(f"checkpoints/{path.name}: damaged; its runs will start afresh ({error})")
    return problems


def _snapshots(store: Store) -> list[str]:
    """Each snapshot is whole; and a run that is done has those that its spec asks for by number."""
    problems, there = [], set(store.snapshots.there())
    for run, step in sorted(there):
        try:
            store.snapshots.load(run, step)
        except StoreError as error:
            problems.append(f"snapshots/{run}-{step}.npz: damaged; remove it, and train run {run} again ({error})")
    for path in store.files("runs") if there else ():
        with contextlib.suppress(StoreError):
            if "log.snapshots" in read_schema(path).names:
                rows = read_parquet(path, columns=["run_id", "status", "steps", "log.snapshots"]).to_pylist()
                problems += [problem for row in rows for problem in _lacking(row, there)]
    return problems


def _lacking(row: dict[str, Any], there: set[tuple[str, int]]) -> list[str]:
    wanted = [int(word) for word in (row["log.snapshots"] or "").split() if word.isdecimal()]
    lacking = [step for step in wanted if step <= row["steps"] and (row["run_id"], step) not in there]
    if row["status"] == "failed" or not lacking:
        return []
    return [f"run {row['run_id']}: no snapshot after {', '.join(map(str, lacking))} updates, which its spec asks for"]


def _probes(store: Store) -> list[str]:
    """Every probe can be read."""
    try:
        store.probes.table()
    except StoreError as error:
        return [f"{error}; remove the file, and `eureka probe` computes it again"]
    return []


def _sweeps(store: Store) -> list[str]:
    problems = []
    for name in store.sweeps():
        try:
            record = store.sweep(name)
            if not isinstance(record.get("runs"), list):
                problems.append(f"sweeps/{name}/sweep.json: lists no runs")
        except StoreError as error:
            problems.append(str(error))
    return problems


def _drop_drafts(store: Store) -> None:
    """Remove files that a writer was killed over, long enough ago that nobody can still be at them."""
    for path in store.path.rglob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > DRAFT_S:
                path.unlink()
