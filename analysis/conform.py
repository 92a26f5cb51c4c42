"""Whether a table that was read is the one that its folder says: no column twice, types as fixed, keys that are there.

What passes can be used without looking again; what does not is a `StoreError` with the file's name. A column that a
table may have besides (a metric, a setting) may be of any simple type.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import StoreError
from analysis.places.object_path import File
from analysis.schema import DIGESTS, METRICS, METRICS_KEYS, RUNS, Column

STATUSES = ("finished", "diverged", "failed")
_TABLES: dict[str, tuple[tuple[Column, ...], tuple[str, ...]]] = {  # folder -> fixed columns, and those without nulls
    "runs": (RUNS, ("run_id", "config_id", "status", "steps", "block")),
    "metrics": (METRICS, METRICS_KEYS),
    "digests": (DIGESTS, ("run_id", "metric", "bin", "at_step", "value")),
}


def check_schema(schema: pa.Schema, path: File) -> None:
    """That a file of the store has its folder's columns, each once.

    Raises:
        StoreError: it has not.
    """
    fixed, keys = _TABLES.get(path.parent.name, ((), ()))
    names = schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _fault(path, f"has column {twice[:60]!r} twice")
    if missing := [name for name in keys if name not in names]:
        raise _fault(path, f"has no column {missing[0]}")
    _check_types(schema, fixed, path)


def check_table(table: pa.Table, path: File, *, asked: Collection[str] | None) -> None:
    """That what was read of a file can be used: its types, and no null where a key stands.

    Args:
        table: what was read.
        path: of the file.
        asked: columns that were asked for; None is all. Keys among them must be there.

    Raises:
        StoreError: it cannot.
    """
    fixed, keys = _TABLES.get(path.parent.name, ((), ()))
    names = table.column_names
    if len(set(names)) < len(names):
        raise _fault(path, "has a column twice")
    if missing := [name for name in keys if name not in names and (asked is None or name in asked)]:
        raise _fault(path, f"has no column {missing[0]}")
    _check_types(table.schema, fixed, path)
    for name in names:
        if name in keys and table[name].null_count:
            raise _fault(path, f"{name}: has nulls")
    _check_texts(table, path)
    for name in {"step", "steps"} & {column.name for column in fixed} & set(names):
        if (pc.min(table[name]).as_py() or 0) < 0:
            raise _fault(path, f"{name}: has numbers below 0")
    if fixed is RUNS and "status" in names and set(table["status"].unique().to_pylist()) - set(STATUSES):
        raise _fault(path, f"status: has others than {', '.join(STATUSES)}")


def _check_texts(table: pa.Table, path: File) -> None:
    texts = [field.name for field in table.schema if not pa.types.is_primitive(field.type)]
    try:
        table.select(texts).validate(full=True)
    except pa.ArrowException:
        raise _fault(path, "has a text that is none") from None


def _check_types(schema: pa.Schema, fixed: tuple[Column, ...], path: File) -> None:
    expected = {column.name: column.dtype for column in fixed}
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        wanted = expected.get(field.name)
        if pa.types.is_nested(kind) or (wanted is not None and not _is_like(kind, wanted)):
            raise _fault(path, f"{field.name[:60]}: is of type {str(kind)[:60]}")


def _is_like(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """The same kind of value, whatever its width; a column of nulls alone is of every kind."""
    for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp):
        if is_kind(wanted):
            return bool(is_kind(kind) or pa.types.is_null(kind))
    return bool(kind == wanted or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _fault(path: File, what: str) -> StoreError:
    return StoreError(f"{path}: not readable (it {what}); `eureka doctor` says more")
