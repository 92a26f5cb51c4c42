"""A store in a folder, on a local or shared file system: a lock, a journal, and renames.

    STORE/.lock       held by whoever adds to the ledger (`flock`, which NFS has from version 4 on)
    STORE/.pending    the journal: which block is being added, and which it replaces

A block's curves and digests are renamed into place first, its ledger file last: that is the commit. Whoever takes the
lock next finishes or removes what a killed writer left.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.errors import StoreError
from analysis.files import names_in, read_json, write_json
from analysis.places.locks import held, is_held
from analysis.places.place import MARKER, OF_BLOCK, PARTS, Leftover, Stamp, T, strangers
from analysis.records import journal_record


class LocalPlace:
    """A folder.

    Args:
        path: of the store.
    """

    def __init__(self, path: Path):
        self.path = path

    def make(self, marker: dict[str, Any]) -> None:
        """Make the folders and the marker."""
        root, mark = self.path, self.path / MARKER
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root}: a file, not a store; give another --store")
        root.mkdir(parents=True, exist_ok=True)
        others = strangers(root)
        if others and not mark.exists():
            raise StoreError(f"{root}: not a store, and not empty ({others[0]} …); give another --store")
        with (root / ".lock").open("a"):
            pass
        if not mark.exists():
            write_json(mark, marker)
        for part in PARTS:
            (root / part).mkdir(exist_ok=True)

    def holds_any(self) -> bool:
        """Whether there is a file, or a folder with anything in it that no store has before its marker."""
        return bool(strangers(self.path)) if self.path.is_dir() else self.path.exists()

    def stamps(self) -> dict[str, Stamp]:
        """Ledger files by name, with size and time."""
        found: dict[str, Stamp] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path / "runs") as entries:
            for entry in entries:
                if entry.name.endswith(".parquet") and entry.name[0] != ".":
                    with contextlib.suppress(FileNotFoundError):
                        about = entry.stat()
                        found[entry.name.removesuffix(".parquet")] = (about.st_size, about.st_mtime_ns)
        return dict(sorted(found.items()))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; first settle what a killed writer left."""
        journal = self.path / ".pending"
        with held(self.path / ".lock"):
            with contextlib.suppress(FileNotFoundError):
                try:
                    pending = journal_record(read_json(journal), path=journal)
                except StoreError:
                    self._settle_unread()
                else:
                    self._settle(pending["block"], pending["replaces"])
            yield

    def in_turn(self, work: Callable[[], T]) -> T:
        """Once, with the lock held."""
        with self.locked():
            return work()

    def fence(self) -> None:
        """Nothing: a turn is over when the lock is free."""

    def publish(self, block: str, *, write: Callable[[], None], replaces: Sequence[str] = ()) -> None:
        """Note the block in the journal, write, and clear the journal."""
        write_json(self.path / ".pending", {"block": block, "replaces": list(replaces)})
        write()
        self._settle(block, replaces)

    def retire(self, block: str) -> None:
        """Remove a block's files, that of the ledger first."""
        self._drop(block, OF_BLOCK)

    def drop_drafts(self, *, older_s: float) -> None:
        """Remove files that were being written aside, and digests of blocks that are not in the ledger."""
        for path in self.path.rglob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > older_s:
                    path.unlink()
        for path in self._strays("digests"):  # they can be made again from curves that are in the ledger
            path.unlink(missing_ok=True)

    def leftovers(self, *, older_s: float) -> list[Leftover]:
        """A journal, and files of blocks that neither it nor the ledger knows; they are only put with the lock held."""
        strays = self._strays(*OF_BLOCK[1:])
        block, replaces, text = self._journal()
        if text and is_held(self.path / ".lock"):
            return []  # somebody is writing
        known = {*self.stamps(), block, *replaces}  # read after the listing: one may have joined meanwhile
        is_in_place = self._file("runs", block).exists()
        found = [Leftover(text, replaced=tuple(replaces) if is_in_place else ())] if text else []
        for path in strays:
            if path.stem not in known:
                whose = "; its rows are no one's" if path.parent.name == "metrics" else ""
                found.append(Leftover(f"{path.parent.name}/{path.name}: belongs to no ledger file{whose}", path=path))
        return found

    def _strays(self, *parts: str) -> list[Path]:
        """Files of blocks that are not in the ledger."""
        there = [self.path / part / name for part in parts for name in names_in(self.path / part)]
        known = set(self.stamps())  # read after the listing, so that a block that joins meanwhile is in both
        return [path for path in there if path.suffix == ".parquet" and path.stem not in known]

    def _journal(self) -> tuple[str, list[str], str]:
        """A block on its way, those that it replaces, and that in words; all empty where there is no journal."""
        journal, way_out = self.path / ".pending", "the next run into this store settles it"
        try:
            pending = journal_record(read_json(journal), path=journal)
        except FileNotFoundError:
            return "", [], ""
        except StoreError:
            return "", [], f".pending: not readable; {way_out}"
        block = pending["block"]
        return block, pending["replaces"], f".pending: block {block} was left half-written; {way_out}"

    def _settle(self, block: str, replaces: Sequence[str]) -> None:
        """Keep a block whose ledger file is in place, remove one without; then clear the journal."""
        if self._file("runs", block).exists():
            for old in replaces:
                self._drop(old, OF_BLOCK)
        else:
            self._drop(block, OF_BLOCK[1:])
        (self.path / ".pending").unlink(missing_ok=True)

    def _settle_unread(self) -> None:
        """With a journal that cannot be read: curves of no ledger file were not committed; `doctor` tells the rest."""
        for path in self._strays(*OF_BLOCK[1:]):
            path.unlink(missing_ok=True)
        (self.path / ".pending").unlink(missing_ok=True)

    def _drop(self, block: str, parts: Sequence[str]) -> None:
        for part in parts:
            self._file(part, block).unlink(missing_ok=True)

    def _file(self, part: str, block: str) -> Path:
        return self.path / part / f"{block}.parquet"
