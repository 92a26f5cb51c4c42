"""Checksums: every file of a store carries its own, where other readers of its format do not stumble over it.

    Parquet    in the footer's key-value metadata: of the footer, and of each column chunk of a long table
    .npz       in the zip archive's comment, at the file's end: of all bytes before it
    JSON       under the last key: of all bytes but its own digits

A file that carries its checksum can be copied, renamed and put anywhere, and is there whole or not at all: a sidecar
would be a second file to lose. Zip's and Parquet's own checksums cover neither headers nor footers; few verify them.
CRC-32 because what is feared is a flipped bit or a lost tail, not a forger: it costs 0.3 ms a MB, a tenth of SHA-256.

Files of before there were checksums have none, and count as unverified. Two marks, the key and the word before the
digits, say that a file has one; with either gone alone it is damaged, not old. With both gone, in a sector that became
zeros, a Parquet footer ends before it names its writer, and JSON and zip archives do not end as they must.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any, BinaryIO

import pyarrow.parquet as pq

KEY = "eureka.checksums"
WORD = "crc32-of"  # the second mark
_DIGITS = 8
_PART = 20  # characters: a length and its checksum
_BUFFER = 1 << 20
_SEAL = re.compile(
    re.escape(KEY.encode()) + rb"\x18[\x80-\xff]*[\x01-\x7f]" + WORD.encode() + rb" ([0-9a-f]{8})((?:[0-9a-f]{20})+);"
)
_TAIL = 8  # bytes behind a Parquet footer: its length, and PAR1
_ZIP_END = 22  # bytes of a zip archive's last record, without its comment
_ZIP_MARK = f"{WORD} ".encode()
_JSON_SEAL = re.compile(rf'"checksum": "{WORD} ([0-9a-f]{{8}})"\n?}}\Z'.encode())
_JSON_SHAPE = re.compile(rb'"[^"]{8}"\s*:\s*"[^"]{17}"\s*}\s*\Z')  # both marks may be hit; its place stays
_JSON_TAIL = 64


class Damaged(ValueError):
    """A file's bytes are not those that were written."""


# -- Parquet -------------------------------------------------------------------------------------


def unfilled(parts: int) -> dict[str, str]:
    """The footer's entry before its digits are known, as long as it will be.

    Args:
        parts: how many stretches of the file have a checksum each: 1, or the number of its column chunks.
    """
    return {KEY: f"{WORD} {'0' * (_DIGITS + parts * _PART)};"}


def seal_parquet(handle: BinaryIO) -> None:
    """Fill in the checksums of a written file that has the `unfilled` entry."""
    start, footer = _footer(handle)
    seal = _SEAL.search(footer)
    assert seal is not None, "the file was written without its entry"
    lengths = _lengths(handle, parts=len(seal[2]) // _PART, end=start)
    found, at = [], 0
    for length in lengths:
        found.append(f"{length:012x}{_crc(handle, at, length):08x}")
        at += length
    whole = bytearray(footer)
    whole[seal.start(2) : seal.end(2)] = "".join(found).encode()
    whole[seal.start(1) : seal.end(1)] = f"{_crc_but(bytes(whole), seal.span(1)):08x}".encode()
    handle.seek(start)
    handle.write(whole)


def check_footer(handle: BinaryIO) -> list[tuple[int, int]] | None:
    """The length and the checksum of each part of a file whose footer is as it was written; None where it has none.

    Raises:
        Damaged: the footer is not.
    """
    start, footer = _footer(handle)
    seal = _SEAL.search(footer)
    if seal is None:
        if KEY.encode() in footer or f"{WORD} ".encode() in footer:
            raise Damaged("its checksums are damaged")
        handle.seek(0)
        if not pq.read_metadata(handle).created_by:  # behind the checksums: zeros in their place end the footer early
            raise Damaged("its footer ends early")
        return None
    if f"{_crc_but(footer, seal.span(1)):08x}".encode() != seal[1]:
        raise Damaged("its footer is not what was written: checksums differ")
    texts = [seal[2][at : at + _PART] for at in range(0, len(seal[2]), _PART)]
    parts = [(int(text[:-_DIGITS], 16), int(text[-_DIGITS:], 16)) for text in texts]
    if sum(length for length, _ in parts) != start:
        raise Damaged("its length is not what was written")
    return parts


def check_parts(handle: BinaryIO, parts: list[tuple[int, int]], *, wanted: Collection[int]) -> None:
    """That the wanted parts of a file are as they were written; `parts` are those of `check_footer`.

    Raises:
        Damaged: one is not.
    """
    at = 0
    for number, (length, expected) in enumerate(parts):
        if number in wanted and _crc(handle, at, length) != expected:
            raise Damaged(f"bytes {at:,} to {at + length - 1:,} are not what was written: checksums differ")
        at += length


def _footer(handle: BinaryIO) -> tuple[int, bytes]:
    """Where the footer begins, and the footer with all that follows."""
    size = handle.seek(0, io.SEEK_END)
    handle.seek(max(0, size - _TAIL))
    tail = handle.read(_TAIL)
    length = struct.unpack("<I", tail[:4])[0] if tail[4:] == b"PAR1" else size
    start = size - _TAIL - length
    if start < 0:
        raise Damaged("its end is missing or damaged")
    handle.seek(start)
    return start, handle.read(size - start)


def _lengths(handle: BinaryIO, *, parts: int, end: int) -> list[int]:
    """How long each part is: each ends where the next column chunk begins; the first holds the file's first bytes."""
    if parts == 1:
        return [end]
    handle.seek(0)
    about = pq.read_metadata(handle)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(about.num_columns)]
    starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
    assert len(starts) == parts, "every column chunk has its place in the entry"
    assert starts == sorted(starts), "column chunks follow each other"
    return [high - low for low, high in pairwise([0, *starts[1:], end])]


# -- .npz ----------------------------------------------------------------------------------------


def seal_npz(handle: BinaryIO) -> None:
    """Add the checksum of a written archive, as its comment."""
    end = handle.seek(0, io.SEEK_END)
    handle.seek(end - 2)
    handle.write(struct.pack("<H", len(_ZIP_MARK) + _DIGITS) + _ZIP_MARK)
    digits = _crc(handle, 0, end + len(_ZIP_MARK))
    handle.seek(0, io.SEEK_END)
    handle.write(f"{digits:08x}".encode())


def check_npz(handle: BinaryIO) -> bool:
    """Whether an archive has a checksum; one that has is as it was written.

    Raises:
        Damaged: it is not, or it ends neither as it would with a checksum nor as it would without.
    """
    size = handle.seek(0, io.SEEK_END)
    handle.seek(max(0, size - _ZIP_END - len(_ZIP_MARK) - _DIGITS))
    tail = handle.read()
    if tail[-_DIGITS - len(_ZIP_MARK) : -_DIGITS] == _ZIP_MARK:
        if f"{_crc(handle, 0, size - _DIGITS):08x}".encode() != tail[-_DIGITS:]:
            raise Damaged("its bytes are not what was written: checksums differ")
        return True
    last = tail[-_ZIP_END:]
    if len(last) < _ZIP_END or last[:4] != b"PK\x05\x06" or last[-2:] != b"\0\0":
        raise Damaged("its end is missing or damaged")
    return False


# -- JSON ----------------------------------------------------------------------------------------


def json_bytes(record: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """A record as JSON, with its checksum under a last key."""
    text = json.dumps({**record, "checksum": f"{WORD} {'0' * _DIGITS}"}, indent=indent).encode()
    seal = _JSON_SEAL.search(text)
    assert seal is not None
    return text[: seal.start(1)] + f"{_crc_but(text, seal.span(1)):08x}".encode() + text[seal.end(1) :]


def parse_json(data: bytes) -> tuple[dict[str, Any], bool]:
    """The record in a JSON file, and whether it has a checksum.

    Raises:
        Damaged: it is not what was written.
        ValueError: it is no JSON, or no record.
    """
    seal = _JSON_SEAL.search(data, max(0, len(data) - _JSON_TAIL))
    tail = data[-_JSON_TAIL:]
    if seal is None and (b'"checksum"' in tail or _ZIP_MARK in tail or _JSON_SHAPE.search(tail)):
        raise Damaged("its checksum is damaged")
    if seal is not None and f"{_crc_but(data, seal.span(1)):08x}".encode() != seal[1]:
        raise Damaged("its bytes are not what was written: checksums differ")
    record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("it holds no record")
    record.pop("checksum", None)
    return record, seal is not None


# -- sums ----------------------------------------------------------------------------------------


def _crc(handle: BinaryIO, start: int, length: int) -> int:
    handle.seek(start)
    found = 0
    for size in _sizes(length):
        piece = handle.read(size)
        if len(piece) < size:
            raise Damaged("its end is missing")
        found = zlib.crc32(piece, found)
    return found


def _sizes(length: int) -> Iterator[int]:
    for at in range(0, length, _BUFFER):
        yield min(_BUFFER, length - at)


def _crc_but(data: bytes, span: tuple[int, int]) -> int:
    """Of all bytes but those of a span."""
    return zlib.crc32(data[span[1] :], zlib.crc32(data[: span[0]]))
