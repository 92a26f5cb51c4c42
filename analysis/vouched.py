"""Which files of a store can be trusted: checksums are compared where files are opened, and what is wrong is one line.

A small file is read once, and what was compared is what is parsed. Of a large one only what is wanted is compared, and
not again while its inode, size and time are the same.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from analysis import checksums
from analysis.errors import StoreError
from analysis.places.object_path import File, forget_copies

SMALL = 1 << 20  # bytes; a smaller file is read at once, and then checked and parsed in memory
UNREADABLE = (OSError, pa.ArrowException, ValueError, MemoryError)  # what pyarrow says of a damaged file
DOCTOR = "; `eureka doctor` says more"
_MOST_CHECKED = 10_000  # large files whose checksums are remembered to be right


def verified(path: File, *, unread: Collection[str] = ()) -> Path:
    """A Parquet file that others may read: as it was written, or of before there were checksums.

    Args:
        path: of the file.
        unread: columns that nobody will look at.

    Raises:
        StoreError: it is gone or damaged.
    """
    with opened(path, unread=unread):
        return path if isinstance(path, Path) else path.here()


@dataclass
class _Checked:
    """What of a large file was found right.

    Attributes:
        stamp: its inode, size and time then.
        parts: its checksums, or None where it has none.
        good: numbers of the parts that were compared.
    """

    stamp: tuple[int, int, int]
    parts: list[tuple[int, int]] | None
    good: set[int] = field(default_factory=set)


_checked: dict[str, _Checked] = {}


@contextlib.contextmanager
def opened(
    path: File, *, columns: Collection[str] | None = None, unread: Collection[str] = ()
) -> Iterator[Path | pa.BufferReader]:
    """A Parquet file to be read, its footer and the wanted columns checked; errors in one line."""
    try:
        here = path if isinstance(path, Path) else path.here()
        with here.open("rb") as handle:
            if os.fstat(handle.fileno()).st_size > SMALL:
                _check_large(handle, here, columns=columns, unread=unread)
                yield here
            else:
                data = handle.read()
                small = io.BytesIO(data)
                parts = checksums.check_footer(small)
                if parts is not None:
                    checksums.check_parts(small, parts, wanted=range(len(parts)))
                yield pa.BufferReader(data)
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def _check_large(handle: BinaryIO, path: Path, *, columns: Collection[str] | None, unread: Collection[str]) -> None:
    about = os.fstat(handle.fileno())
    stamp, known = (about.st_ino, about.st_size, about.st_mtime_ns), _checked.get(str(path))
    if known is None or known.stamp != stamp:
        if len(_checked) >= _MOST_CHECKED:
            _checked.clear()
        known = _checked[str(path)] = _Checked(stamp, checksums.check_footer(handle))
    if known.parts is None:
        return
    wanted = set(range(0 if columns == () else len(known.parts)))
    if (columns or unread) and len(known.parts) > 1:
        names = pq.read_schema(handle).names
        read = set(names if columns is None else columns) - set(unread)
        wanted = {number for number in wanted if names[number % len(names)] in read}
    checksums.check_parts(handle, known.parts, wanted=wanted - known.good)
    known.good |= wanted


def has_checksum(path: File) -> bool:
    """Whether a Parquet, .npz or JSON file says that it carries a checksum; whether it holds is for its reader to find.

    Raises:
        StoreError: it is gone, or so damaged that it cannot be said.
    """
    try:
        if path.suffix == ".json":
            return checksums.parse_json(path.read_bytes())[1]
        here = path if isinstance(path, Path) else path.here()
        with here.open("rb") as handle:
            return checksums.check_npz(handle) if path.suffix == ".npz" else checksums.check_footer(handle) is not None
    except (*UNREADABLE, RecursionError) as error:
        raise unreadable(path, error) from None


def forget_checked() -> None:
    """Compare checksums anew, and copy anew from a bucket: what was right may have been damaged since."""
    _checked.clear()
    forget_copies()


def unreadable(path: File, error: Exception) -> StoreError:
    """What to raise of a file that is gone or damaged."""
    way_out = "" if isinstance(error, FileNotFoundError) else DOCTOR
    return StoreError(f"{path}: not readable ({plainly(error)}){way_out}")


def bare(table: pa.Table) -> pa.Table:
    """A table without the checksums of the file that it was read from."""
    about = table.schema.metadata
    if not about or checksums.KEY.encode() not in about:
        return table
    kept = {name: value for name, value in about.items() if name != checksums.KEY.encode()}
    return table.replace_schema_metadata(kept or None)


def whole_groups(path: File) -> pa.Table:
    """Rows of a damaged file's row groups all of whose columns are as they were written.

    Raises:
        StoreError: the footer is damaged, or the file has no checksums, so that nothing vouches for any.
    """
    try:
        here = path if isinstance(path, Path) else path.here()
        with here.open("rb") as handle:
            parts = checksums.check_footer(handle) or []
            columns, good = len(pq.read_schema(handle)), []
            if not parts or len(parts) % columns:
                raise checksums.Damaged("it has no checksums of its row groups")
            for group in range(len(parts) // columns):
                with contextlib.suppress(checksums.Damaged):
                    checksums.check_parts(handle, parts, wanted=range(group * columns, (group + 1) * columns))
                    good.append(group)
        return bare(pq.ParquetFile(here).read_row_groups(good))
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def plainly(error: Exception) -> str:
    """An error of the system or a library, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    first = next(iter(text.strip().splitlines()), "") or type(error).__name__
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in first)
