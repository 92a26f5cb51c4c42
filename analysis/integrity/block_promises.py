"""Promises of a store's blocks: each committed run once, with each of its steps once; digests that are its curves'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.bins import digest_rows, is_current
from analysis.errors import StoreError
from analysis.files import read_parquet, read_schema
from analysis.integrity.finding import Finding
from analysis.places.object_path import File
from analysis.schema import RUNS
from analysis.store import Store
from analysis.vouched import whole_groups

_DIGEST_ORDER = [("metric", "ascending"), ("run_id", "ascending"), ("bin", "ascending")]
_LEDGER = ("run_id", "config_id", "status", "steps", "log.snapshots")


def of_block(store: Store, block: str, *, ledgers: dict[str, pa.Table]) -> Iterator[Finding]:
    """A block's ledger, its curves and their digests; puts the ledger where the others find it."""
    name = f"runs/{block}.parquet"
    try:
        ledger = read_parquet(store.runs_path(block))
    except StoreError as error:
        yield Finding(text=f"{error}; its runs are not known, and will be trained again", remedy="retrain", block=block)
        return
    missing = [column.name for column in RUNS if column.name not in ledger.schema.names]
    if missing:
        yield Finding(text=f"{name}: no column {', '.join(missing)}", remedy="retrain", block=block)
        return
    ledgers[block] = ledger.select([name for name in _LEDGER if name in ledger.schema.names])
    if not pc.all(pc.equal(ledger["block"], block)).as_py() and len(ledger):
        yield Finding(text=f"{name}: has rows of another block", remedy="retrain", block=block)
    yield from _curves(store, block, ledger)


def _curves(store: Store, block: str, ledger: pa.Table) -> Iterator[Finding]:
    """Each run of a block must have each of its steps exactly once."""
    trained = ledger.filter(pc.field("status") != "failed")
    expected = dict(zip(trained["run_id"].to_pylist(), trained["steps"].to_pylist(), strict=True))
    path, name = store.metrics_path(block), f"metrics/{block}.parquet"
    if not path.exists():
        if any(expected.values()):
            text = f"{name}: missing; {len(expected)} runs have no curve"
            yield Finding(text=text, remedy="retrain", block=block, runs=frozenset(expected))
        return
    try:
        table = read_parquet(path)
    except StoreError as error:
        whole = _whole_runs(path, expected)
        saved = f"; {len(whole):,} of its {len(expected):,} runs lie in parts that are whole" if whole else ""
        yield Finding(text=f"{error}{saved}", remedy="retrain", block=block, runs=frozenset(expected) - whole)
        return
    if not pc.all(pc.equal(table["block"], block)).as_py() and len(table):
        yield Finding(text=f"{name}: has rows of another block", remedy="retrain", block=block)
    found, wrong = _counts(table), False
    for run, steps in expected.items():
        row = found.pop(run, None)
        if steps if row is None else not _is_whole(row, steps):
            how = "has no row" if row is None else f"{row['step_count']} rows for {steps} steps"
            wrong = True
            yield Finding(text=f"run {run}: {how} in {name}", remedy="retrain", block=block, runs=frozenset([run]))
    for run in found:
        wrong = True
        text = f"run {run}: rows in {name}, but no ledger row there"
        yield Finding(text=text, remedy="retrain", block=block, runs=frozenset([run]))
    if not wrong:
        yield from _digests(store, block, ledger, table)


def _counts(table: pa.Table) -> dict[str, dict[str, Any]]:
    """How many steps each run has, how many different ones, the first and the last."""
    groups = pa.table({"run": table["run_id"], "step": table["step"]}).group_by("run").aggregate(
        [("step", "count"), ("step", "count_distinct"), ("step", "min"), ("step", "max")]
    )  # fmt: skip
    return {row["run"]: row for row in groups.to_pylist()}


def _is_whole(row: dict[str, Any], steps: int) -> bool:
    found = [row[f"step_{what}"] for what in ("count", "count_distinct", "min", "max")]
    return found == [steps, steps, 0, steps - 1]


def _whole_runs(path: File, expected: dict[str, int]) -> frozenset[str]:
    """Runs all of whose steps lie in the row groups of a damaged file that are as they were written."""
    try:
        found = _counts(whole_groups(path))
    except StoreError:
        return frozenset()
    return frozenset(run for run, steps in expected.items() if run in found and _is_whole(found[run], steps))


def _digests(store: Store, block: str, ledger: pa.Table, curves: pa.Table) -> Iterator[Finding]:
    """A digest that is there, and of this definition, must be that of the curves; none is no fault."""
    path = store.digest_path(block)
    again = f"remove the file, and `eureka compact {store.path}` makes it again"
    try:
        if not path.exists() or not is_current(read_schema(path).metadata or {}):
            return
        stored = read_parquet(path)
    except StoreError as error:
        yield Finding(text=f"{error}; {again}", remedy="digest", block=block, files=(path,))
        return
    steps = dict(zip(ledger["run_id"].to_pylist(), ledger["steps"].to_pylist(), strict=True))
    made = digest_rows(curves, steps=steps)
    if not stored.sort_by(_DIGEST_ORDER).equals(made.sort_by(_DIGEST_ORDER)):
        text = f"digests/{block}.parquet: is not the digest of metrics/{block}.parquet; {again}"
        yield Finding(text=text, remedy="digest", block=block, files=(path,))


def doubled(store: Store, ledgers: dict[str, pa.Table]) -> Iterator[Finding]:
    """No run is committed twice; where one is, the later block's row goes if it says the same, else both."""
    seen: dict[str, str] = {}
    twice: dict[str, tuple[str, str]] = {}
    for block, ledger in ledgers.items():
        for run in ledger["run_id"].to_pylist():
            if run in seen and store.runs_path(block).exists() and store.runs_path(seen[run]).exists():
                twice[run] = (seen[run], block)
            seen[run] = block
    for run, (first, second) in twice.items():
        text = f"run {run}: committed twice, in blocks {first} and {second}"
        blocks = (second,) if _same(store, run, first, second) else (first, second)
        for block in blocks:
            yield Finding(text=f"{text}", remedy="retrain", block=block, runs=frozenset([run]))
            text += f"; and they differ, so neither counts in {second}"


def _same(store: Store, run: str, first: str, second: str) -> bool:
    """Whether two blocks say the same of a run, but for their names."""
    try:
        for path_of in (store.runs_path, store.metrics_path):
            files = [path_of(block) for block in (first, second)]
            there = [read_parquet(path) for path in files if path.exists()]
            rows = [table.filter(pc.field("run_id") == run).drop_columns("block") for table in there]
            if len(rows) == 1 and len(rows[0]):
                return False
            if len(rows) == len(files) and not _sorted(rows[0]).equals(_sorted(rows[1])):
                return False
    except StoreError:
        return False
    return True


def _sorted(rows: pa.Table) -> pa.Table:
    rows = rows.select(sorted(rows.column_names))
    return rows.sort_by("step") if "step" in rows.column_names else rows
