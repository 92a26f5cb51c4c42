"""A file in a bucket, with as much of `pathlib.Path` as a store needs; imports nothing that speaks to one."""

from __future__ import annotations

import atexit
import hashlib
import io
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from analysis.places.bucket import Bucket


CONSTANT = ("runs", "metrics", "digests", "probes")  # parts of a store whose files never change under their names


@dataclass(frozen=True)
class About:
    """What a listing says of an object."""

    key: str
    st_size: int
    st_mtime: float
    st_ino: int  # a number for its content, so that two of the same time and size are told apart

    @property
    def st_mtime_ns(self) -> int:
        """As `os.stat_result` has it [ns]; of another content it is another."""
        return round(self.st_mtime * 1e9) + self.st_ino % 1000


class ObjectPath:
    """An object, or what many of them begin with; errors are OSErrors, as a file's are.

    Args:
        bucket: that holds it.
        key: its name there, below the store's.
    """

    def __init__(self, bucket: Bucket, key: str = ""):
        self._bucket, self._key = bucket, key

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self._bucket, f"{self._key}/{name}" if self._key else name)

    def __str__(self) -> str:
        return f"{self._bucket.address}/{self._key}" if self._key else self._bucket.address

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: ObjectPath) -> bool:
        return str(self) < str(other)

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self._key).name

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return PurePosixPath(self._key).stem

    @property
    def suffix(self) -> str:
        """The ending."""
        return PurePosixPath(self._key).suffix

    @property
    def parent(self) -> ObjectPath:
        """Without the last part; the store's root is its own."""
        return ObjectPath(self._bucket, self._key.rpartition("/")[0])

    # -- reading -----------------------------------------------------------------------------

    def read_bytes(self) -> bytes:
        """The whole object."""
        return self._bucket.read(self._key)

    def read_text(self) -> str:
        """The same as text."""
        return self.read_bytes().decode()

    def open(self, mode: str = "rb") -> BinaryIO:
        """The whole object, in memory."""
        assert mode == "rb", "objects are put whole: write_bytes"
        return io.BytesIO(self.read_bytes())

    def stat(self) -> About:
        """Its size and time."""
        return self._bucket.about(self._key)

    def exists(self) -> bool:
        """Whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def below(self) -> list[About]:
        """Everything below, at any depth, keys as seen from here, in order."""
        cut = len(self._folder)
        found = [
            About(one.key[cut:], one.st_size, one.st_mtime, one.st_ino) for one in self._bucket.entries(self._folder)
        ]
        return sorted(found, key=lambda one: one.key)

    def glob(self, pattern: str) -> list[ObjectPath]:
        """Objects below whose names match, part by part."""
        parts = pattern.split("/")
        names = [one.key for one in self.below()]
        return [self / name for name in names if _match(name.split("/"), parts)]

    @property
    def is_here(self) -> bool:
        """Whether it was copied already, and cannot have changed."""
        return self._key.partition("/")[0] in CONSTANT and self._copy().exists()

    def _copy(self) -> Path:
        stamp = "" if self._key.partition("/")[0] in CONSTANT else str(self.stat())
        return _copies() / hashlib.blake2b(f"{self}{stamp}".encode(), digest_size=16).hexdigest() / self.name

    def here(self) -> Path:
        """A copy on this machine, for as long as this process lives."""
        copy = self._copy()
        if not copy.exists():
            data = self.read_bytes()
            copy.parent.mkdir(exist_ok=True)
            draft = copy.with_name(f".{uuid.uuid4().hex}")
            draft.write_bytes(data)
            draft.replace(copy)
        return copy

    # -- writing -----------------------------------------------------------------------------

    def write_bytes(self, data: bytes) -> None:
        """Put the object, whole or not at all, in place of what there is."""
        self._bucket.put(self._key, data)

    def write_new(self, data: bytes) -> bool:
        """Put the object unless there is one; whether that was done.

        Args:
            data: what nobody else would put, so that an answer that was lost on its way can be told.
        """
        return self._bucket.put_new(self._key, data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; one that is not there was removed before, by us when the answer was lost."""
        self._bucket.delete(self._key)

    def mkdir(self, **_: bool) -> None:
        """Nothing: a bucket has no folders."""

    @property
    def _folder(self) -> str:
        return f"{self._key}/" if self._key else ""


File: TypeAlias = Path | ObjectPath


def fetch(paths: Sequence[File]) -> list[File]:
    """The same paths; of those in a bucket there are copies here now, made beside each other."""
    absent = [path for path in paths if isinstance(path, ObjectPath) and not path.is_here]
    if len(absent) > 1:
        with suppress(OSError):  # whoever reads it says what is wrong
            at_once(ObjectPath.here, absent)
    return list(paths)


def forget_copies() -> None:
    """Read again what was copied here: it may have been damaged, or mended, since."""
    if _made_copies.cache_info().currsize:
        for copy in _copies().iterdir():
            shutil.rmtree(copy, ignore_errors=True)


def at_once(read: Callable[[ObjectPath], object], paths: Iterable[ObjectPath]) -> None:
    """Read many objects beside each other: one by one each would cost a journey."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(read, paths))


def _copies() -> Path:
    """The folder of this process's copies; a new one where a cleaner of temporary folders took the last."""
    if not _made_copies().is_dir():
        _made_copies.cache_clear()
    return _made_copies()


@cache
def _made_copies() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="eureka-copies-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _match(names: list[str], parts: list[str]) -> bool:
    return len(names) == len(parts) and all(map(fnmatchcase, names, parts))
