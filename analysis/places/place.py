"""Where a store lies: what differs between a folder and a bucket, and nothing else.

Files are named alike in both (`store.py`) and read and written alike (`files.py`, with `pathlib.Path` for the one and
`ObjectPath` for the other). What differs is how a block joins the ledger: a folder has locks and renames, a bucket has
neither, but can refuse to put an object that is there. So a place promises, whatever it is made of:

**All or nothing.** A block that `publish` was killed over is in `blocks()` whole, or not at all, for every reader.

**In turn.** What `in_turn` read of the ledger is the whole ledger when its block joins it: where another writer came
first, the work is done again on what there is then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from analysis.errors import StoreError
from analysis.places.object_path import File

T = TypeVar("T")
Stamp: TypeAlias = tuple[int, int]
PARTS = ("runs", "metrics", "digests", "checkpoints", "sweeps")
OF_BLOCK = ("runs", "metrics", "digests")  # a block is a file of its name in each of these, the first its ledger
MARKER = "eureka.json"
DRAFT_S = 3600.0  # an unfinished file this old is nobody's [s]


@dataclass(frozen=True)
class Leftover:
    """Something that a killed writer left, and no reader sees.

    Attributes:
        text: what, in one line.
        path: a file that is no one's; without one, whoever writes next settles it.
        replaced: blocks whose runs are in another one already, and which are dropped when it is settled.
    """

    text: str
    path: File | None = None
    replaced: tuple[str, ...] = ()


class Place(Protocol):
    """A folder or a bucket that holds one store."""

    @property
    def path(self) -> File:
        """The store's root."""

    def make(self, marker: dict[str, Any]) -> None:
        """Make an empty store of what is empty; leave a store as it is.

        Raises:
            StoreError, OSError: it holds something else, or cannot be written.
        """

    def holds_any(self) -> bool:
        """Whether there is a store, or something else; not where one was only begun to be made."""

    def stamps(self) -> dict[str, Stamp]:
        """The blocks that are in the ledger, oldest first; a block with another stamp has another content."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other commands out for a moment; what is read within is what `publish` adds to, or it fails."""

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do what reads the ledger and then publishes, until no other writer came in between; may run it again."""

    def fence(self) -> None:
        """From here on, what began in a turn before cannot be published any more: its writer has to look again."""

    def publish(self, block: str, *, write: Callable[[], None], replaces: Sequence[str] = ()) -> None:
        """Let `write` put a block's files, then have it join the ledger, and others leave; only within a turn."""

    def retire(self, block: str) -> None:
        """Have a block leave the ledger, its files removed; only within a turn."""

    def drop_drafts(self, *, older_s: float) -> None:
        """Remove what killed writers left so long ago that nobody can still be at it; only within a turn [s]."""

    def leftovers(self, *, older_s: float) -> list[Leftover]:
        """What killed writers left, so long ago that nobody can still be at it [s]."""


def place_of(address: str | os.PathLike[str], *, waits: bool = False) -> Place:
    """The place at an address: a path, file://, s3://, gs:// or az://.

    Args:
        address: of a store.
        waits: for one that does not answer yet, since others have reached it.

    Raises:
        StoreError: the address is none, or what speaks to buckets is not installed.
    """
    text = os.fspath(address)
    if is_remote(text):
        from analysis.places.object_place import ObjectPlace

        return ObjectPlace(text, waits=waits)
    from analysis.places.local_place import LocalPlace

    return LocalPlace(local_path(text))


def is_remote(address: str | os.PathLike[str]) -> bool:
    """Whether an address is that of a bucket."""
    text = os.fspath(address)
    return "://" in text and not text.startswith("file://")


def is_there(address: str | os.PathLike[str]) -> bool:
    """Whether anything is at an address: a store, or what is none. An empty folder is nothing.

    Raises:
        StoreError: it cannot be asked.
    """
    place = place_of(address)
    try:
        return place.holds_any()
    except OSError as error:
        raise StoreError(f"{place.path}: {error.strerror or error}") from None


def strangers(folder: Path) -> list[str]:
    """What keeps a folder from being made a store; not what a command leaves that is killed while it does so."""
    own = (".lock", f".{MARKER}.")  # the second: the marker's draft
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(own))


def local_path(path: str | os.PathLike[str]) -> Path:
    """A store's address as a path.

    Raises:
        StoreError: the address is of another kind.
    """
    text = os.fspath(path)
    if is_remote(text):
        raise StoreError(f"{text}: is on object storage; what is asked needs a local or mounted path")
    return Path(text.removeprefix("file://")).expanduser().absolute()
