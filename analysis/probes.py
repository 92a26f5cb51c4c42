"""PROBES: what interventions on snapshots gave, in long form; imports pyarrow alone.

    STORE/probes/BLOCK.parquet        readings that were computed together

A probe is one intervention on one snapshot; its id is a hash of all that determines its readings, so asking again
computes nothing. Its rows come in one file, which is there whole or not at all. Where two processes computed the same
probe, the earlier file counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.files import made, read_parquet, write_parquet
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

    folder: Path

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
            table = read_parquet(path)
            fresh = sorted(set(_column(path, "probe_id")) - seen)
            found.append(table.filter(pc.is_in(table["probe_id"], pa.array(fresh, pa.string()))))
            seen |= set(fresh)
        return pa.concat_tables(found)

    def _files(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            names = [entry.name for entry in os.scandir(self.folder)]
            return [self.folder / name for name in sorted(names) if name.endswith(".parquet") and name[0] != "."]
        return []


def _column(path: Path, name: str) -> list[str]:
    values: list[str] = read_parquet(path, columns=[name])[name].unique().to_pylist()
    return values
