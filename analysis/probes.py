"""PROBES: what interventions on snapshots gave, in long form; imports pyarrow alone.

    STORE/probes/BLOCK.parquet        readings that were computed together

A probe is one intervention on one snapshot; its id is a hash of all that determines its readings, so asking again
computes nothing. Its rows come in one file, which is there whole or not at all. Where two processes computed the same
probe, the earlier file counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import StoreError
from analysis.files import files_in, made, plainly, read_parquet, write_parquet
from analysis.places.object_path import File, fetch
from analysis.schema import Column, schema

PROBES = (
    Column("probe_id", pa.string(), "-", "hash of run, step, intervention, examples and their seed"),
    Column("run_id", pa.string(), "-", "joins RUNS"),
    Column("step", pa.int64(), "optimiser steps", "updates made before the snapshot"),
    Column("intervention", pa.string(), "-", "its name"),
    Column("options", pa.string(), "-", "its settings that are not at their defaults, as JSON"),
    Column("examples", pa.int64(), "examples", "how many the snapshot was shown"),
    Column("seed", pa.int64(), "-", "of those examples"),
    Column("layer", pa.int64(), "-", "from 0; null: the whole model"),
    Column("head", pa.int64(), "-", "from 0; null: the whole layer"),
    Column("item", pa.string(), "-", "which of several: a target, a word, a direction"),
    Column("metric", pa.string(), "-", "what was measured"),
    Column("value", pa.float64(), "the metric's", "what came of it"),
)


@dataclass(frozen=True)
class Probes:
    """The probes of one store."""

    folder: File

    def known(self) -> set[str]:
        """Ids of all probes that were computed."""
        return {probe for path in self._files() for probe in _column(path, "probe_id")}

    def add(self, block: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the rows of whole probes.

        Raises:
            StoreError: the file could not be written.
        """
        made(self.folder)
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema(PROBES))
        write_parquet(self.folder / f"{block}.parquet", table)

    def table(self) -> pa.Table:
        """All rows, each probe's once."""
        seen: set[str] = set()
        found = [schema(PROBES).empty_table()]
        for path in self._files():
            table = _read(path)
            fresh = sorted(set(_column(path, "probe_id")) - seen)
            found.append(table.filter(pc.is_in(table["probe_id"], pa.array(fresh, pa.string()))))
            seen |= set(fresh)
        return pa.concat_tables(found)

    def _files(self) -> list[File]:
        return fetch(files_in(self.folder, ".parquet"))


def _read(path: File, *, columns: Sequence[Column] = PROBES) -> pa.Table:
    """Columns of a file, as they are written.

    Raises:
        StoreError: it is damaged, or has others.
    """
    names = [column.name for column in columns]
    try:
        return read_parquet(path, columns=names).select(names).cast(schema(tuple(columns)))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise StoreError(f"{path}: not readable (no table of probes: {plainly(error)})") from None


def _column(path: File, name: str) -> list[str]:
    only = [column for column in PROBES if column.name == name]
    values: list[str] = _read(path, columns=only)[name].drop_null().unique().to_pylist()
    return values
