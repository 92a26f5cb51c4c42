"""Promises of a store's other files: states, snapshots, probes, what sweeps keep; and that each has its checksum."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.appended import check_appended, sum_path
from analysis.errors import StoreError
from analysis.files import read_arrays, read_json, read_parquet
from analysis.integrity.finding import Finding, Remedy
from analysis.places.object_path import File
from analysis.places.place import MARKER, OF_BLOCK
from analysis.store import Store
from analysis.vouched import has_checksum


def checkpoints(store: Store) -> Iterator[Finding]:
    """Every saved state can be read."""
    for path in store.files("checkpoints", ".npz"):
        try:
            with read_arrays(path) as arrays:
                for name in arrays.files:
                    arrays[name]  # reads it
        except StoreError as error:
            if path.exists():
                text = f"checkpoints/{path.name}: damaged; its runs will start afresh ({error})"
                yield Finding(text=text, remedy="aside", files=(path,))


def snapshots(store: Store, ledgers: dict[str, pa.Table]) -> Iterator[Finding]:
    """Each snapshot is whole; and a run that is done has those that its spec asks for by number."""
    there = set(store.snapshots.there())
    block_of = (
        {run: block for block, ledger in ledgers.items() for run in ledger["run_id"].to_pylist()} if there else {}
    )
    for run, step in sorted(there):
        try:
            store.snapshots.load(run, step)
        except StoreError as error:
            text = f"snapshots/{run}-{step}.npz: damaged; remove it, and train run {run} again ({error})"
            path, block = store.snapshots.path(run, step), block_of.get(run, "")
            yield Finding(text=text, remedy="aside", files=(path,))
            if block:
                text = f"run {run}: its snapshot after {step} updates is damaged"
                yield Finding(text=text, remedy="retrain", block=block, runs=frozenset([run]))
    for block, ledger in ledgers.items():
        if there and "log.snapshots" in ledger.schema.names:
            for row in ledger.to_pylist():
                if text := _lacking(row, there):
                    yield Finding(text=text, remedy="retrain", block=block, runs=frozenset([row["run_id"]]))


def _lacking(row: dict[str, Any], there: set[tuple[str, int]]) -> str:
    wanted = [int(word) for word in (row["log.snapshots"] or "").split() if word.isdecimal()]
    lacking = [step for step in wanted if step <= row["steps"] and (row["run_id"], step) not in there]
    if row["status"] == "failed" or not lacking:
        return ""
    return f"run {row['run_id']}: no snapshot after {', '.join(map(str, lacking))} updates, which its spec asks for"


def probes(store: Store) -> Iterator[Finding]:
    """Every probe can be read."""
    for path in store.files("probes"):
        try:
            read_parquet(path)
        except StoreError as error:
            text = f"{error}; remove the file, and `eureka probe` computes it again"
            yield Finding(text=text, remedy="aside", files=(path,))


# -- sweeps --------------------------------------------------------------------------------------


def sweeps(store: Store) -> Iterator[Finding]:
    """What sweeps and searches keep can be read, and agrees."""
    for name in sorted({path.parent.name for path in (store.path / "sweeps").glob("*/*")}):
        folder = store.path / "sweeps" / name
        yield from _record(store, folder)
        yield from _search(folder)
        for path in [*folder.glob("cohorts/*.json"), *folder.glob("claims/*.json"), folder / "progress.json"]:
            with contextlib.suppress(FileNotFoundError):
                try:
                    read_json(path)
                except StoreError as error:
                    text = f"{error}; it is of a command at work, which writes it again"
                    yield Finding(text=text, remedy="remove", files=(path,))


def _record(store: Store, folder: File) -> Iterator[Finding]:
    """The record is whole, and the YAML beside it is the record's."""
    path, copy = folder / "sweep.json", folder / "sweep.yaml"
    if not path.exists():
        return
    try:
        record = store.sweep(folder.name)
    except StoreError as error:
        text = f"{error}; `eureka run {copy} --store {store.path}` writes it again"
        yield Finding(text=text, remedy="aside", files=(path,))
        return
    listed = record.get("runs")
    if not isinstance(listed, list) or len(set(listed)) < len(listed):
        fault = "lists no runs" if not isinstance(listed, list) else "lists a run twice"
        yield Finding(text=f"sweeps/{folder.name}/sweep.json: {fault}", remedy="aside", files=(path,))
    if copy.exists() and copy.read_bytes() != str(record.get("yaml", "")).encode():
        text = f"sweeps/{folder.name}/sweep.yaml: is not what sweep.json has"
        yield Finding(text=text, remedy="yaml", files=(copy,))


def _search(folder: File) -> Iterator[Finding]:
    """A search's trials and study."""
    trials, study = folder / "trials.parquet", folder / "study.journal"
    if trials.exists():
        try:
            read_parquet(trials)
        except StoreError as error:
            text = f"{error}; the same `eureka run` makes it again from the study"
            yield Finding(text=text, remedy="aside", files=(trials,))
    if isinstance(study, Path) and (study.exists() or sum_path(study).exists()):
        try:
            check_appended(study)
        except StoreError as error:
            text = f"{error}; without it, the search begins again with what the ledger has"
            files = tuple(path for path in (study, sum_path(study)) if path.exists())
            yield Finding(text=text, remedy="aside", files=files)


# -- checksums -----------------------------------------------------------------------------------


def bare(store: Store, *, files: dict[str, int], unverified: dict[str, int]) -> Iterator[Finding]:
    """Counts files with and without a checksum; in a store that was begun with checksums each must have one."""
    is_promised = bool(read_json(store.path / MARKER).get("checksums"))
    for part, path in _all_files(store):
        try:
            has = has_checksum(path) if path.suffix != ".journal" else sum_path(path).exists()  # type: ignore[arg-type]
        except StoreError:
            continue  # found above, or gone meanwhile
        counted = files if has else unverified
        counted[part] = counted.get(part, 0) + 1
        if is_promised and not has:
            block = path.stem if part in OF_BLOCK[:2] else ""
            remedy: Remedy = "retrain" if block else ("remove" if part in ("digests", "events") else "aside")
            text = (
                f"{part}/{path.name}: carries no checksum, as every file of this store should; nothing vouches for it"
            )
            yield Finding(text=text, remedy=remedy, block=block, files=(path,))


def _all_files(store: Store) -> Iterator[tuple[str, File]]:
    for part in ("runs", "metrics", "digests", "events", "probes"):
        for path in store.files(part):
            yield part, path
    for part in ("checkpoints", "snapshots"):
        for path in store.files(part, ".npz"):
            yield part, path
    for pattern in ("sweep.json", "trials.parquet", "study.journal"):
        for path in (store.path / "sweeps").glob(f"*/{pattern}"):
            yield f"sweeps/{path.parent.name}", path
