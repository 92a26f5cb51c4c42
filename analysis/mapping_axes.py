"""Axes over whole mappings, as in `task: [{name: parity, k: 3}, ...]`: RUNS has their fields, a reader wants one axis.

Fields that say no more than those before them are left out. Where one field is left it stands for the axis; where
several are, each mapping becomes a few words, in a column of the axis's own name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analysis.errors import AnalysisError
from analysis.labels import value_text


def with_mapping_axes(runs: pl.DataFrame, *, declared: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    """RUNS with a column of words for every declared axis over mappings that no single column tells apart.

    The words are an Enum in the order in which the sweep declares the mappings.
    """
    for axis, values in declared.items():
        if runs.is_empty() or axis in runs.columns or len(fields := below(axis, runs=runs)) < 2:
            continue
        rows = runs.select(fields).unique(maintain_order=True).sort(fields, nulls_last=True)
        words = pl.Series([_words(row, axis=axis) for row in rows.iter_rows(named=True)], dtype=pl.String)
        order = [words[i] for i in _declared_order(rows, axis=axis, values=values)]
        named = rows.with_columns(words.cast(pl.Enum(order)).alias(axis))
        runs = runs.join(named, on=fields, how="left", nulls_equal=True, maintain_order="left")
    return runs


def below(axis: str, *, runs: pl.DataFrame) -> list[str]:
    """The fewest columns under a mapping axis, its `name` first, that tell its mappings apart; none where it is one.

    Raises:
        AnalysisError: RUNS has no such axis.
    """
    if not any(name.startswith(f"{axis}.") for name in runs.columns):
        known = ", ".join(name for name in runs.columns if "." in name)
        raise AnalysisError(f"RUNS: axis: got {axis!r}; expected one of {known}")
    inner = [name for name in runs.columns if name.startswith(f"{axis}.") and runs[name].n_unique() > 1]
    kept: list[str] = []
    for name in sorted(inner, key=lambda name: name != f"{axis}.name"):
        if not kept or runs.select(*kept, name).n_unique() > runs.select(kept).n_unique():
            kept.append(name)
    return kept


def _words(row: Mapping[str, Any], *, axis: str) -> str:
    """`rewrite, rule copy, n_blocks 1`: fields that a mapping does not have are left out."""
    told = []
    for name, value in row.items():
        field = name.removeprefix(f"{axis}.")
        if value is not None:
            told.append(value_text(value) if field == "name" else f"{field.removesuffix('.name')} {value_text(value)}")
    return ", ".join(told) or value_text(None)


def _declared_order(rows: pl.DataFrame, *, axis: str, values: Sequence[Any]) -> list[int]:
    """Numbers of the rows, those first that agree with the first declared mapping."""
    left = dict(enumerate(rows.iter_rows(named=True)))
    found = []
    for value in values:
        said = _flat(value, under=axis)
        mine = [i for i, row in left.items() if all(row[name] == said[name] for name in row.keys() & said.keys())]
        found += mine[:1]
        left = {i: row for i, row in left.items() if i not in found}
    return [*found, *left]


def _flat(value: Any, *, under: str) -> dict[str, Any]:
    """A nested mapping with dotted keys."""
    if not isinstance(value, Mapping):
        return {under: value}
    return {name: leaf for key, inner in value.items() for name, leaf in _flat(inner, under=f"{under}.{key}").items()}
