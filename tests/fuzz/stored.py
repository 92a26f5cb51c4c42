"""Targets that lie in a store: records, checkpoints, tables. A store may come from anybody, and be damaged anyhow.

Inputs carry no checksum, as files of before there were any; or else every change would end at the checksum, and
nothing behind it would be tried.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.detect import stored_events
from analysis.store import Store
from analysis.upkeep import check
from analysis.usual import judge_of
from orchestrator.claims import Claims
from orchestrator.rerun import find_run, stored_curve
from orchestrator.serve.curves import saved_curve
from orchestrator.status import LEDGER_COLUMNS, standing, standings
from tests.fuzz import small_store
from tests.fuzz.archive import vary_arrays
from tests.fuzz.mutate import VALUES, any_bytes, any_data
from tests.fuzz.target import Target
from workloads.spec import resolve


def targets(folder: Path) -> list[Target]:
    """Those of this file, each with a store of its own."""
    store = small_store.made(folder / "store")
    sweep = store.sweep_dir("small")
    ledger = {row["run_id"]: row for row in store.runs_table().select(list(LEDGER_COLUMNS)).to_pylist()}
    one, turns = store.blocks()[0], itertools.count()
    cohort = sweep / "cohorts" / f"{small_store.COHORT}.json"
    saved = store.path / "checkpoints" / f"{small_store.COHORT}.npz"
    run = next(iter(store.checkpoints.furthest()))

    def record() -> None:
        found = store.sweep("small")
        standing(found, ledger=ledger, saved=set())
        judge_of(found)
        assert found["name"] == "small", "a record that is another's"

    def members() -> None:
        found = store.cohort("small", small_store.COHORT)
        for member in found["members"]:
            resolve(member)

    def journal() -> None:
        before = _files(store.path)
        with store.locked():
            pass
        assert _files(store.path) - {".pending"} == before - {".pending"}, "a journal of nothing removed files"

    def claims() -> None:
        Claims(store, sweep="small", owner="me")._others()

    def states() -> None:
        for run_id, (path, _) in store.checkpoints.furthest().items():
            store.checkpoints.load(run_id, path)
        store.checkpoints.drop_spent(store.statuses())
        saved_curve(store, run)

    snapshot = store.snapshots.path(*store.snapshots.there()[0])

    def weights() -> None:
        store.snapshots.load(*store.snapshots.there()[0])

    def tables() -> None:
        fresh, turn = Store(store.path), next(turns)
        standings(fresh, names=fresh.sweeps())
        fresh.online_events(fresh.statuses())
        if turn % 4 == 0:
            stored_events(fresh)
        elif turn % 4 == 1:
            for run_id in fresh.statuses():
                stored_curve(fresh, find_run(fresh, run_id))
        elif turn % 16 == 2:
            check(fresh)

    def readings() -> None:
        store.probes.known()
        store.probes.table()

    marker, about = store.path / "eureka.json", sweep / "sweep.json"
    texts = [
        Target(name="record", seeds=[_plain(about)], vary=vary_json, run=_in(about, record)),
        Target(name="cohort", seeds=[_plain(cohort)], vary=vary_json, run=_in(cohort, members)),
        Target(
            name="journal", seeds=[b'{"block": "20200101T000000.0-abcdef01", "replaces": ["a"]}'], vary=vary_json,
            run=_in(store.path / ".pending", journal),
        ),
        Target(
            name="marker", seeds=[b'{"schema_version": 1}'], vary=vary_json, run=_in(marker, lambda: Store(store.path)),
        ),
        Target(
            name="claim", seeds=[b'{"beat": 3, "runs": ["0123456789abcdef"]}'], vary=vary_json,
            run=_in(sweep / "claims" / "other-1-abc.json", claims),
        ),
    ]  # fmt: skip
    arrays = [
        Target(name="checkpoint", seeds=[_unsealed(saved)], vary=vary_arrays, run=_in(saved, states)),
        Target(name="snapshot", seeds=[_unsealed(snapshot)], vary=vary_arrays, run=_in(snapshot, weights)),
    ]
    parts = {
        "ledger": (store.runs_path(one), tables),
        "curves": (store.metrics_path(one), tables),
        "digests": (store.digest_path(one), tables),
        "readings": (next((store.path / "probes").glob("*.parquet")), readings),
    }
    rows = [
        Target(name=name, seeds=[_untold(path)], vary=vary_table, run=_in(path, run))
        for name, (path, run) in parts.items()
    ]
    return [*texts, *arrays, *rows]


def _in(path: Path, run: Callable[[], object]) -> Callable[[bytes], None]:
    """Put an input in a file's place, and look."""

    def put(data: bytes) -> None:
        path.write_bytes(data)
        run()

    return put


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _plain(path: Path) -> bytes:
    """A record without its checksum."""
    record = json.loads(path.read_bytes())
    record.pop("checksum", None)
    return json.dumps(record).encode()


def _unsealed(path: Path) -> bytes:
    """Arrays without their checksum."""
    sink = io.BytesIO()
    with np.load(path, allow_pickle=False) as arrays:
        np.savez(sink, **dict(arrays))  # type: ignore[arg-type]
    return sink.getvalue()


def _untold(path: Path) -> bytes:
    """A table without its checksums."""
    table = pq.read_table(path)
    about = {key: value for key, value in (table.schema.metadata or {}).items() if b"checksum" not in key}
    return _written(table.replace_schema_metadata(about or None))


def _written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none")
    return sink.getvalue()


def vary_json(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Another value somewhere; sometimes bytes."""
    if rng.random() < 0.2:
        return any_bytes(rng, data, others)
    try:
        record = json.loads(data)
    except ValueError:
        return any_bytes(rng, data, others)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        record = any_data(rng, record)
    return json.dumps(record).encode()


def vary_table(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A column gone, of another type, renamed, with nulls or wild values; rows gone or twice; sometimes bytes."""
    if rng.random() < 0.3:
        return any_bytes(rng, data, others)
    try:
        table = pq.read_table(pa.BufferReader(data))
        for _ in range(rng.choice((1, 1, 2))):
            table = _other_table(rng, table)
        return _written(table)
    except (OSError, ValueError, pa.ArrowException):  # the input is one of the corpus, and no table
        return any_bytes(rng, data, others)


def _other_table(rng: Random, table: pa.Table) -> pa.Table:
    if not table.column_names or len(set(table.column_names)) < len(table.column_names):
        return table
    at = rng.randrange(len(table.column_names))
    return _other_rows(rng, table) if rng.random() < 0.4 else _other_column(rng, table, at, table.column_names[at])


def _other_rows(rng: Random, table: pa.Table) -> pa.Table:
    """Some twice, few of them, or in another order."""
    kind = rng.randrange(3)
    if kind == 0:
        return pa.concat_tables([table, table.slice(rng.randrange(len(table) + 1), 3)])
    if kind == 1:
        return table.slice(rng.randrange(len(table) + 1), rng.randrange(4))
    return table.take(pa.array(rng.sample(range(len(table)), len(table)), pa.int64()))


def _other_column(rng: Random, table: pa.Table, at: int, name: str) -> pa.Table:
    """Gone, renamed, with another value or type."""
    kind, values = rng.randrange(5), table[name].to_pylist()
    if kind == 0:
        return table.drop_columns(name)
    if kind == 1:
        names = list(table.column_names)
        names[at] = rng.choice(("", "x", "run_id", "step", *names))
        return table.rename_columns(names)
    if kind == 2:
        place = rng.randrange(len(values) + 1)
        values[place : place + 1] = [rng.choice(_like(values))] * len(values[place : place + 1])
    elif kind == 3:
        values = [rng.choice(_like(values))] * len(values)
    else:
        column = pa.array([rng.choice((None, "a", b"\xff", 1.5, 2**40, True, [1], {"a": 1}))] * len(values))
        return table.set_column(at, name, column)
    try:
        return table.set_column(at, name, pa.array(values, table.schema.field(name).type))
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return table.set_column(at, name, pa.nulls(len(values), table.schema.field(name).type))


def _like(values: Sequence[Any]) -> list[Any]:
    """Wild values of the column's own kind."""
    first = next((value for value in values if value is not None), None)
    if isinstance(first, str):
        return [None, "", "../../x", "\0", "é\u2028", "finished", "failed", "nan", "{}", "[]", "{", "a" * 3000]
    if isinstance(first, int):
        return [None, 0, -1, 1, 2**31 - 1, -(2**31), 2**62]
    if isinstance(first, float):
        return [None, float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e300, 1e-320]
    return [None, *(value for value in VALUES if isinstance(value, type(first)))]
