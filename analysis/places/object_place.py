"""A store in a bucket: blocks are put under names of their own, then an entry of the log says that they count.

    STORE/log/NUMBER.json                which blocks joined and left the ledger (`object_log.py`)
    STORE/runs/BLOCK.parquet …           as in a folder; a block that no entry names is no one's

Nothing is locked for a commit, so nothing that was killed holds anything. Whoever puts an entry has read all before
it; who loses the race for a number reads on and does its work again, without the runs that were committed meanwhile.
What writers left without an entry is removed by `compact` after an hour, behind an entry of its own: a writer that
wakes up later than that finds its number taken, and its files are written anew.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from analysis.errors import StoreError
from analysis.files import write_json
from analysis.places.bucket import bucket_of
from analysis.places.object_errors import BucketError
from analysis.places.object_lock import Lock
from analysis.places.object_log import Log
from analysis.places.object_path import About, ObjectPath
from analysis.places.place import MARKER, OF_BLOCK, PARTS, Leftover, Stamp, T

MOST_TURNS = 100
PAUSE_S = 0.05
_COLLIDES = (
    "this gateway puts over an object that it was told not to replace (If-None-Match), so writers could collide;"
    " use a newer gateway, or a local or mounted path"
)


class Overtaken(Exception):
    """Another writer came first."""


class ObjectPlace:
    """A store's part of a bucket.

    Args:
        address: of the store.
        waits: for a gateway that does not answer yet.
    """

    def __init__(self, address: str, *, waits: bool = False):
        bucket = bucket_of(address.rstrip("/"))
        if waits:
            bucket.wait_long()
        self.path = ObjectPath(bucket)
        self._log = Log(self.path / "log")
        self._guard = threading.RLock()
        self._in_turn = self._has_moved = False

    def make(self, marker: dict[str, Any]) -> None:
        """Put the marker and the log's first entry."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / MARKER).read_bytes()  # asked for its size alone, a gateway does not say what is wrong
            return
        if stranger := self._stranger():
            raise StoreError(f"{self.path}: not a store, and not empty ({stranger} …); give another --store")
        if not self._log.begin():
            raise StoreError(f"{self.path}: {_COLLIDES}")
        write_json(self.path / MARKER, marker)

    def holds_any(self) -> bool:
        """Whether there is a marker, or something that no store has before it."""
        return (self.path / MARKER).exists() or bool(self._stranger())

    def _stranger(self) -> str:
        """What lies there besides that with which the making of a store begins."""
        return next((one.key for one in self.path.below() if one.key.partition("/")[0] not in (*PARTS, "log")), "")

    def stamps(self) -> dict[str, Stamp]:
        """The blocks that the log names; within a turn, those that it named at its beginning."""
        with self._guard:
            if not self._in_turn:
                self._log.refresh()
            return dict.fromkeys(sorted(self._log.blocks), (0, 0))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, read the log, and then no further."""
        with Lock(self.path / "lock").held(), self._turn():
            try:
                yield
            except Overtaken:
                raise StoreError(f"{self.path}: another command wrote at the same time; try again") from None

    def in_turn(self, work: Callable[[], T]) -> T:
        """Try until nobody came first; without the lock, which could be lost."""
        jitter = random.SystemRandom()
        for turn in range(MOST_TURNS):
            with contextlib.suppress(Overtaken), self._turn():
                number = self._log.number
                try:
                    return work()
                except StoreError:  # a block is gone, because it was merged into another?
                    self._log.refresh()
                    if self._log.number == number:
                        raise
            time.sleep(jitter.uniform(0.0, PAUSE_S * min(turn + 1, 20)))
        raise StoreError(f"{self.path}: other writers came first {MOST_TURNS} times; use fewer, or longer runs")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._guard:
            self._log.refresh()
            self._in_turn, self._has_moved = True, False
            try:
                yield
            finally:
                self._in_turn = False

    def fence(self) -> None:
        """Take the next number with an entry that says nothing."""
        with self._guard:
            self._log.refresh()
            while not self._log.append(join=[], leave=[]):
                self._log.refresh()
            self._has_moved = True

    def publish(self, block: str, *, write: Callable[[], None], replaces: Sequence[str] = ()) -> None:
        """Put the files, then the entry that names them.

        What only takes the place of blocks that are still there, with runs of theirs, is right whoever came first.
        """
        assert self._in_turn, "what joins the ledger was read in the same turn"
        write()
        is_late = self._has_moved and not replaces
        while is_late or not self._log.append(join=[block], leave=list(replaces)):
            self._log.refresh()
            self._has_moved = True
            if not replaces or not self._log.blocks.issuperset(replaces):
                self._drop(block)
                raise Overtaken
        with contextlib.suppress(OSError):  # what is left counts no more, and `compact` removes it
            for old in replaces:
                self._drop(old)

    def retire(self, block: str) -> None:
        """Put an entry that the block leaves, then remove its files."""
        if not self._log.append(join=[], leave=[block]):
            raise Overtaken
        self._drop(block)

    def drop_drafts(self, *, older_s: float) -> None:
        """Remove old files of blocks that no entry names."""
        now = time.time()
        old = [(part, one) for part, one in self._strays() if now - one.st_mtime > older_s]
        if not old:
            return
        self.fence()  # whoever is still at one of them has to write it anew
        for part, one in old:
            if one.key.removesuffix(".parquet") not in self._log.blocks:  # it may have joined just before
                (self.path / part / one.key).unlink()

    def leftovers(self, *, older_s: float) -> list[Leftover]:
        """Old files of blocks that no entry names; and whether the gateway would let entries collide."""
        way_out = f"no reader sees it, and `eureka compact {self.path}` removes it"
        old = [(part, one) for part, one in self._strays() if time.time() - one.st_mtime > older_s]
        found = [Leftover(f"{part}/{one.key}: of a block that is not in the log; {way_out}") for part, one in old]
        with contextlib.suppress(BucketError):  # a key that may only read cannot ask
            found += [] if Log(self.path / "log").begin() else [Leftover(f"{self.path}: {_COLLIDES}")]
        return found

    def _strays(self) -> list[tuple[str, About]]:
        there = [(part, one) for part in OF_BLOCK for one in (self.path / part).below()]
        known = set(self.stamps())  # read after the listing: a block that joins meanwhile is in both
        return [(part, one) for part, one in there if one.key.removesuffix(".parquet") not in known]

    def _drop(self, block: str) -> None:
        for part in OF_BLOCK:
            (self.path / part / f"{block}.parquet").unlink()
