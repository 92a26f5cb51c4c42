"""How the store's files are written and read: whole or not at all, with checksums, errors in one line."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import checksums
from analysis.conform import check_schema, check_table
from analysis.errors import StoreError
from analysis.places.object_path import File, ObjectPath
from analysis.vouched import bare, opened, unreadable
from analysis.vouched import plainly as plainly  # noqa: PLC0414  # others have it from here

F = TypeVar("F", bound=File)
ENCODINGS = {  # columns of METRICS and DIGESTS that are not single-precision
    "step": "DELTA_BINARY_PACKED",
    "bin": "DELTA_BINARY_PACKED",
    "n_steps": "DELTA_BINARY_PACKED",
    "at_step": "BYTE_STREAM_SPLIT",
    "value": "BYTE_STREAM_SPLIT",
}
MANY_ROWS = 100_000  # of fewer, threads cost more than they bring
GROUP_ROWS = 1 << 20  # of a row group


def write_parquet(path: File, table: pa.Table) -> None:
    """Zstandard, split floats, delta steps, dictionary ids: 15 bytes a row of 8 metrics, against 26 by default."""
    encodings = {field.name: "BYTE_STREAM_SPLIT" for field in table.schema if pa.types.is_float32(field.type)}
    encodings |= {name: code for name, code in ENCODINGS.items() if _is_curve(table) and name in table.schema.names}
    plain = set(encodings)
    groups = -(-len(table) // GROUP_ROWS) if _is_curve(table) else 0
    parts = max(1, groups * len(table.schema))
    settings: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [name for name in table.schema.names if name not in plain],
        "column_encoding": encodings or None,
        "write_page_checksum": True,
    }
    with aside(path) as handle:
        with pq.ParquetWriter(handle, table.schema, **settings) as writer:
            writer.write_table(table, row_group_size=GROUP_ROWS)
            writer.add_key_value_metadata(checksums.unfilled(parts))
        checksums.seal_parquet(handle)


def _is_curve(table: pa.Table) -> bool:
    """METRICS or DIGESTS, whose columns are long and regular, rather than the ledger."""
    return table.schema.names[:3] in (["run_id", "block", "step"], ["run_id", "block", "metric"])


def write_bytes(path: File, data: bytes) -> None:
    """Replace a small file."""
    with aside(path) as handle:
        handle.write(data)


def write_json(path: File, record: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Replace a record."""
    write_bytes(path, checksums.json_bytes(record, indent=indent))


def write_arrays(path: File, arrays: Mapping[str, Any]) -> None:
    """Replace a file of arrays by name."""
    with aside(path) as handle:
        np.savez(handle, **arrays)
        checksums.seal_npz(handle)


@contextlib.contextmanager
def aside(path: File) -> Iterator[Any]:
    """Write a file under a private name; flush it to disk and rename it into place only when whole.

    Raises:
        StoreError: it could not be written; what was there before is still there.
    """
    if isinstance(path, ObjectPath):
        with _put(path) as handle:
            yield handle
        return
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with draft.open("w+b") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(f"{path}: cannot be written ({plainly(error)})") from None
        raise


@contextlib.contextmanager
def _put(path: ObjectPath) -> Iterator[io.BytesIO]:
    """Write an object: it is put when it is whole."""
    handle = io.BytesIO()
    yield handle
    try:
        path.write_bytes(handle.getvalue())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({plainly(error)})") from None


def names_in(folder: File) -> list[str]:
    """Names of the files in a folder, in order; of those that are whole, and none where there is no folder.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(folder, ObjectPath):
        return [one.key for one in folder.below() if "/" not in one.key]
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.name[0] != ".")
    return []


def files_in(folder: File, suffix: str) -> list[File]:
    """Whole files in a folder that end so, in order.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return [folder / name for name in names_in(folder) if name.endswith(suffix)]
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read ({plainly(error)})") from None


def read_parquet(path: File, columns: list[str] | None = None, *, coded: tuple[str, ...] = ()) -> pa.Table:
    """One file, whole; `coded` text columns as codes into a dictionary, which is how they are stored, and quicker.

    Raises:
        StoreError: it is gone or damaged.
    """
    with opened(path, columns=columns) as source:
        file = pq.ParquetFile(source, read_dictionary=list(coded))
        table = file.read(columns=columns, use_threads=file.metadata.num_rows >= MANY_ROWS)
    table = bare(table)
    check_table(table, path, asked=columns)
    return table


def read_schema(path: File, *, is_scanned: bool = False) -> pa.Schema:
    """A file's columns; where others will scan it, all of it is checked.

    Raises:
        StoreError: it is gone or damaged.
    """
    with opened(path, columns=None if is_scanned else ()) as source:
        schema = pq.read_schema(source)
    check_schema(schema, path)
    return schema


def count_rows(path: File) -> int:
    """How many rows a file has.

    Raises:
        StoreError: it is gone or damaged.
    """
    with opened(path, columns=()) as source:
        rows: int = pq.read_metadata(source).num_rows
    return rows


@contextlib.contextmanager
def read_arrays(path: File) -> Iterator[Any]:
    """The arrays of a checkpoint by name, each read when it is asked for; nothing in it is executed.

    Raises:
        StoreError: the file is gone or damaged.
    """
    try:
        with path.open("rb") as handle:
            checksums.check_npz(handle)
            handle.seek(0)
            with np.load(handle, allow_pickle=False) as arrays:
                _check_stored(arrays.zip)
                yield arrays
    except _NO_ARCHIVE as error:
        raise unreadable(path, error) from None


def _check_stored(archive: zipfile.ZipFile) -> None:
    """That nothing in an archive is packed: ours never is, and a small packed file can fill a machine's memory.

    Raises:
        ValueError: something is.
    """
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename[:60]!r} is compressed, which eureka never writes")


_NO_ARCHIVE = (  # what is said of a damaged archive without a checksum, or of an array that is not what was looked for
    *(OSError, ValueError, KeyError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, TypeError, IndexError, AttributeError),
)


def read_json(path: File) -> dict[str, Any]:
    """A record.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
    """
    try:
        return checksums.parse_json(path.read_bytes())[0]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None


def made(folder: F) -> F:
    """A folder, made if need be.

    Raises:
        StoreError: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({plainly(error)})") from None
    return folder


def stamp_of(path: File) -> tuple[int, int] | None:
    """A file's size and time, which change with its content; None where it is not.

    Raises:
        StoreError: it cannot be asked.
    """
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from None
    return about.st_size, about.st_mtime_ns


def remove(path: File) -> None:
    """A file, if it is there.

    Raises:
        StoreError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed ({plainly(error)})") from None
