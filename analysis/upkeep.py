"""Keeping a store in order: merging its small files, and checking every promise that it makes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.bins import is_current
from analysis.errors import StoreError
from analysis.files import count_rows, read_parquet, read_schema
from analysis.integrity.invariants import examine
from analysis.kept_events import move_blocks
from analysis.places.place import DRAFT_S
from analysis.schema import unify
from analysis.store import Store
from analysis.vouched import has_checksum

MERGED_ROWS = 4_000_000  # METRICS rows of a merged block: about 150 MB while it is being written


@dataclass(frozen=True)
class Merge:
    """What `compact` did: files of the ledger before and after, and METRICS rows moved."""

    before: int
    after: int
    rows: int


def compact(store: Store) -> Merge:
    """Merge blocks into few, each run's rows together and in step order; make digests and checksums that are missing.

    The store stays readable throughout: a merged block is in place before its parts go.
    """
    with store.locked():
        store.place.drop_drafts(older_s=DRAFT_S)
        blocks = store.blocks()
        rows, moved = 0, dict[str, str]()
        for group in _groups(store, blocks):
            if len(group) > 1 or not _is_vouched_for(store, group[0]):
                block, size = store.merge(group, unify([read_parquet(store.runs_path(old)) for old in group]))
                rows += size
                moved |= dict.fromkeys(group, block)
            else:
                _complete(store, group[0])
        move_blocks(store, moved)
        return Merge(before=len(blocks), after=len(store.blocks()), rows=rows)


def _groups(store: Store, blocks: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    rows = 0
    for block in blocks:
        path = store.metrics_path(block)
        size = count_rows(path) if path.exists() else 0
        if group and rows + size > MERGED_ROWS:
            yield group
            group, rows = [], 0
        group.append(block)
        rows += size
    if group:
        yield group


def _is_vouched_for(store: Store, block: str) -> bool:
    """Whether a block's files have checksums."""
    files = [path for path in (store.runs_path(block), store.metrics_path(block)) if path.exists()]
    return all(map(has_checksum, files))


def _complete(store: Store, block: str) -> None:
    """Write a block's digests if it has none of this definition; the caller holds the lock."""
    path = store.metrics_path(block)
    with contextlib.suppress(StoreError):
        if is_current(read_schema(store.digest_path(block)).metadata or {}):
            return
    if path.exists():
        store.write_digest(block, read_parquet(store.runs_path(block)), read_parquet(path))


def check(store: Store) -> list[str]:
    """Every broken promise of a store, in plain words; empty when there is none."""
    return [one.text for one in examine(store).findings]
