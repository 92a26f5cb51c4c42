"""Mending a store without guessing: what can be made again is made again, the rest is set aside and trained again.

    STORE/damaged/TIME/…      what was set aside, under the names that it had; nobody reads it

A run whose curve, ledger row or snapshot is damaged leaves the ledger, in one commit that keeps the others of its
block, so that the next `run` plans it again. Nothing but what can be made again from other files is destroyed.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import StoreError
from analysis.files import made, read_parquet, write_bytes, write_json
from analysis.integrity.file_promises import bare
from analysis.integrity.finding import Finding
from analysis.integrity.invariants import examine
from analysis.places.object_path import File
from analysis.places.place import DRAFT_S, MARKER, OF_BLOCK
from analysis.rows import new_block
from analysis.schema import SCHEMA_VERSION
from analysis.store import MARKER as MARKED
from analysis.store import Store
from analysis.vouched import whole_groups

DAMAGED = "damaged"
MOST_ROUNDS = 4  # mending one thing may bare another: a run that is trained again leaves its probes behind


def mend(store: Store, findings: Sequence[Finding], *, dry_run: bool = False) -> list[str]:
    """Mend what was found, and what shows behind it.

    Args:
        store: which.
        findings: as `examine` gave them.
        dry_run: say it, and do nothing.

    Returns:
        What was done, a line each.

    Raises:
        StoreError: the store cannot be written.
    """
    aside = _aside_of(store.path)
    said: list[str] = list(_drafts(store, dry_run=dry_run))
    for _ in range(MOST_ROUNDS):
        able = [one for one in findings if one.remedy != "none"]
        if not able:
            break
        try:
            said += [line for line in _round(store, able, aside=aside, dry_run=dry_run) if line not in said]
        except OSError as error:
            raise StoreError(f"{store.path}: cannot be mended ({error.strerror or error})") from None
        if dry_run:
            break
        store = Store(store.path)
        findings = examine(store).findings
    return said


def mend_marker(path: File, *, dry_run: bool = False) -> list[str]:
    """Write a store's damaged marker again: there is one layout so far, and the folders say that it is a store.

    Raises:
        StoreError: nothing says so, or it cannot be written.
    """
    if not isinstance(path, Path) or not (path / "runs").is_dir() or not (path / "sweeps").is_dir():
        raise StoreError(f"{path / MARKER}: damaged, and nothing beside it says that this is a store; restore the file")
    if not dry_run:
        _set_aside([path / MARKER], root=path, aside=_aside_of(path))
        write_json(path / MARKER, {"schema_version": SCHEMA_VERSION})
        unverified = dict[str, int]()
        if not list(bare(Store(path), files={}, unverified=unverified)) and not unverified:
            write_json(path / MARKER, MARKED)
    return [f"wrote {MARKER} again"]


def _round(store: Store, findings: Sequence[Finding], *, aside: File, dry_run: bool) -> Iterator[str]:
    """One pass over what was found; the order is that in which nothing is lost by a kill in between."""
    of: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        of[one.remedy].append(one)
    yield from _retrained(store, of["retrain"], aside=aside, dry_run=dry_run)
    for one in of["aside"]:
        if not dry_run:
            _set_aside(one.files, root=store.path, aside=aside)
        yield f"set aside {_listed(store, one.files)}"
    for one in of["remove"]:
        if not dry_run:
            with store.locked():
                for path in one.files:
                    path.unlink(missing_ok=True)
        yield f"removed {_listed(store, one.files)}"
    yield from _made_again(store, of["digest"] + of["yaml"], dry_run=dry_run)
    if of["settle"]:
        if not dry_run:
            store.in_turn(lambda: store.place.drop_drafts(older_s=DRAFT_S))
        yield "settled what killed writers left"


def _made_again(store: Store, findings: Iterable[Finding], *, dry_run: bool) -> Iterator[str]:
    """What follows from other files."""
    for one in findings:
        if one.remedy == "digest":
            if not dry_run:
                store.in_turn(lambda block=one.block: _digest_again(store, block))  # type: ignore[misc]
            yield f"made digests/{one.block}.parquet again"
            continue
        for path in one.files:
            if not dry_run:
                write_bytes(path, str(store.sweep(path.parent.name).get("yaml", "")).encode())
            yield f"wrote {_listed(store, [path])} again from sweep.json"


# -- runs that leave the ledger ------------------------------------------------------------------


def _retrained(store: Store, findings: Iterable[Finding], *, aside: File, dry_run: bool) -> Iterator[str]:
    """Take runs out of the ledger, block by block; of a block, all of them where one finding is of all."""
    blocks: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        blocks[one.block].append(one)
    for block, here in sorted(blocks.items()):
        gone = frozenset() if any(not one.runs for one in here) else frozenset.union(*(one.runs for one in here))
        kept, curves = _kept(store, block, gone)
        left = _leaving(store, block, kept)
        if not dry_run:
            files = [store.path / part / f"{block}.parquet" for part in OF_BLOCK]
            _copy_aside([path for path in files if path.exists()], root=store.path, aside=aside)

            def leave(block: str = block, kept: pa.Table | None = kept, curves: list[pa.Table] = curves) -> None:
                if store.runs_path(block).exists() and block in store.blocks():
                    _replace(store, block, kept, curves)

            store.in_turn(leave)
        yield f"took {left} out of block {block}, which is kept aside; the next `run` trains what no other block has"


def _kept(store: Store, block: str, gone: frozenset[str]) -> tuple[pa.Table | None, list[pa.Table]]:
    """Ledger rows and curves of a block's other runs; none where the ledger or all of them are damaged."""
    if not gone:
        return None, []
    ledger = read_parquet(store.runs_path(block))
    stays = ledger.filter(pc.invert(pc.is_in(ledger["run_id"], pa.array(sorted(gone), pa.string()))))
    trained = stays.filter(pc.field("steps") > 0)
    if not len(stays):
        return None, []
    if not len(trained):
        return stays, []
    try:
        curves = read_parquet(store.metrics_path(block))
    except StoreError:
        curves = whole_groups(store.metrics_path(block))
    return stays, [curves.filter(pc.is_in(curves["run_id"], trained["run_id"]))]


def _leaving(store: Store, block: str, kept: pa.Table | None) -> str:
    """How many runs leave, in words."""
    try:
        number = len(read_parquet(store.runs_path(block), columns=["run_id"])) - (0 if kept is None else len(kept))
    except StoreError:
        return "its runs"
    return "1 run" if number == 1 else f"{number:,} runs"


def _replace(store: Store, block: str, kept: pa.Table | None, curves: list[pa.Table]) -> None:
    """Put the rest of a block in its place, or nothing; only within a turn."""
    if kept is None or not len(kept):
        store.place.retire(block)
        return
    store.write_block(new_block(), kept.sort_by("run_id"), curves, replaces=[block])


def _digest_again(store: Store, block: str) -> None:
    store.digest_path(block).unlink(missing_ok=True)
    if store.metrics_path(block).exists():
        store.write_digest(block, read_parquet(store.runs_path(block)), read_parquet(store.metrics_path(block)))


# -- files ---------------------------------------------------------------------------------------


def _set_aside(files: Iterable[File], *, root: File, aside: File) -> None:
    """Move files, so that nobody reads them."""
    files = list(files)
    _copy_aside(files, root=root, aside=aside)
    for path in files:
        path.unlink(missing_ok=True)


def _copy_aside(files: Iterable[File], *, root: File, aside: File) -> None:
    for path in files:
        target = aside
        for name in str(path).removeprefix(f"{root}/").split("/"):
            target = target / name
        with contextlib.suppress(FileNotFoundError):
            if isinstance(path, Path) and isinstance(target, Path):
                made(target.parent)
                shutil.copy2(path, target)
            else:
                write_bytes(target, path.read_bytes())


def _aside_of(root: File) -> File:
    return root / DAMAGED / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"


def _drafts(store: Store, *, dry_run: bool) -> Iterator[str]:
    """Remove files that were being written when their writer was killed."""
    if isinstance(store.path, Path):
        old = [path for path in store.path.rglob(".*.tmp") if time.time() - path.stat().st_mtime > DRAFT_S]
        if old and not dry_run:
            store.in_turn(lambda: store.place.drop_drafts(older_s=DRAFT_S))
        if old:
            yield f"removed {len(old):,} files that killed writers left unfinished"


def _listed(store: Store, files: Iterable[File]) -> str:
    return ", ".join(str(path).removeprefix(f"{store.path}/") for path in files)
