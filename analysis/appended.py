"""A file that only grows, a search's study, with a sum of it in a small file beside: its length and its checksum.

    STORE/sweeps/NAME/study.journal          lines that Optuna appends, in Optuna's format
    STORE/sweeps/NAME/study.journal.sum      LENGTH CHECKSUM OWN-CHECKSUM, after each append

A kill between an append and its sum leaves a sum of fewer bytes, which is no fault: all that it vouches for is there.
A shorter file, or other bytes before that length, is. Its one writer calls `grown`; what others appended meanwhile, a
dashboard's notes, counts with the next sum.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from analysis.errors import StoreError

_BUFFER = 1 << 20


class Appended:
    """The sum of a growing file, for its one writer.

    Args:
        path: of the file, which may be made later.

    Raises:
        StoreError: it is not what it was.
    """

    def __init__(self, path: Path):
        self._path = path
        self._length, self._sum = vouched(path) or (0, 0)
        check_appended(path)

    def grown(self) -> None:
        """Vouch for all whole lines that the file holds now; a half one may be another's, and be cut off later."""
        with self._path.open("rb") as handle:
            handle.seek(self._length)
            new = handle.read()
        new = new[: new.rfind(b"\n") + 1]
        self._sum, self._length = zlib.crc32(new, self._sum), self._length + len(new)
        words = f"{self._length:016x} {self._sum:08x}"
        place = os.open(sum_path(self._path), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(
                place, f"{words} {zlib.crc32(words.encode()):08x}\n".encode(), 0
            )  # less than a sector: whole or not
        finally:
            os.close(place)


def sum_path(path: Path) -> Path:
    """Where the sum of a file lies."""
    return path.with_name(f"{path.name}.sum")


def vouched(path: Path) -> tuple[int, int] | None:
    """How many bytes the sum of a file vouches for, and their checksum; None where there is no sum.

    Raises:
        StoreError: the sum is damaged.
    """
    try:
        text = sum_path(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{sum_path(path)}: not readable ({error.strerror})") from None
    words, own = text[:25], text[26:]
    if own != f"{zlib.crc32(words):08x}\n".encode() or text[25:26] != b" ":
        raise StoreError(f"{sum_path(path)}: not readable (it is not what was written: checksums differ)")
    return int(words[:16], 16), int(words[17:], 16)


def check_appended(path: Path) -> bool:
    """Whether a file has a sum; one that has begins with what the sum vouches for.

    Raises:
        StoreError: it does not, or the sum is damaged.
    """
    found = vouched(path)
    if found is None:
        return False
    length, expected = found
    left, seen = length, 0
    try:
        with path.open("rb") as handle:
            while left and (piece := handle.read(min(left, _BUFFER))):
                left, seen = left - len(piece), zlib.crc32(piece, seen)
    except OSError as error:
        raise StoreError(f"{path}: not readable ({error.strerror})") from None
    if left:
        raise StoreError(f"{path}: not readable (its last {left:,} bytes are missing)")
    if seen != expected:
        raise StoreError(f"{path}: not readable (its bytes are not what was written: checksums differ)")
    return True
