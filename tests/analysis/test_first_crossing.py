"""The first bin that reached a level: against the whole digest, and a plain loop, in every state a store can be in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis.first_crossing
from analysis import frames
from analysis.errors import NoSuchColumn
from analysis.first_crossing import first_bins
from analysis.rows import curve
from analysis.store import Store
from analysis.upkeep import compact
from tests.analysis.ledger import TYPES, row

RUNS = [f"r{number}" for number in range(12)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Twelve runs in four blocks; the loss of three of them never falls."""
    made, rng = Store.create(tmp_path / "s"), np.random.default_rng(0)
    for first in range(0, 12, 3):
        curves = []
        for number in range(first, first + 3):
            steps = 300 + 40 * number
            fall = np.where(np.arange(steps) < (2 * steps if number % 4 == 0 else steps // 2), 1.0, 0.1)
            loss = (fall + rng.normal(0, 0.2, steps)).astype(np.float32)
            curves.append(curve(RUNS[number], {"loss": loss, "accuracy": 1 - loss}, np.zeros(0, np.int64), {}))
        rows = [row(RUNS[number], steps=300 + 40 * number) for number in range(first, first + 3)]
        made.commit(rows, curves, types=TYPES)
    return made


def slowly(store: Store, *, metric: str, level: float, falls: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in frames.digest(store, metric=metric).iter_rows(named=True):
        if (one["value"] <= level if falls else one["value"] >= level) and one["run_id"] not in found:
            found[one["run_id"]] = one["at_step"]
    return found


@pytest.mark.parametrize(
    ("metric", "level", "falls"), [("loss", 0.5, True), ("accuracy", 0.5, False), ("loss", 9, True)]
)
def test_first_bins_are_those_of_the_whole_digest(store: Store, metric: str, level: float, falls: bool) -> None:
    found = first_bins(store, level=level, metric=metric, falls=falls)
    assert found["run_id"].is_sorted()
    assert dict(found.iter_rows()) == slowly(store, metric=metric, level=level, falls=falls)
    assert found.height == (12 if level == 9 else 9)


def test_first_bins_read_neither_curves_nor_ledger_where_digests_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = first_bins(store, level=0.5)
    shutil.rmtree(store.path / "metrics")
    monkeypatch.setattr(frames, "runs", None)
    assert first_bins(store, level=0.5).equals(expected)


@pytest.mark.parametrize("state", ["compacted", "no digests", "one block without", "one damaged", "another definition"])
def test_first_bins_are_the_same_in_any_state_of_the_store(store: Store, state: str) -> None:
    expected, path = first_bins(store, level=0.5), store.digest_path(store.blocks()[1])
    if state == "compacted":
        compact(store)
    elif state == "no digests":
        shutil.rmtree(path.parent)
    elif state == "one block without":
        path.unlink()
    elif state == "one damaged":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        table = pq.read_table(path)
        pq.write_table(table.slice(0, 5).replace_schema_metadata({b"digest_version": b"99"}), path)
    assert first_bins(Store(store.path), level=0.5).equals(expected)


def test_first_bins_of_a_level_nobody_reached_are_no_row(store: Store) -> None:
    found = first_bins(store, level=-9.0)
    assert found.is_empty()
    assert found.schema == {"run_id": pl.String, "at_step": pl.Float64}


def test_first_bins_leave_out_rows_that_were_never_committed(store: Store) -> None:
    lost = store.blocks()[0]
    gone = set(pq.read_table(store.runs_path(lost))["run_id"].to_pylist())
    store.runs_path(lost).unlink()
    assert not gone & set(first_bins(store, level=9.0)["run_id"])


def test_first_bins_follow_a_merge_that_moves_their_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, read, merged = first_bins(store, level=0.5), analysis.first_crossing.read_parquet, []

    def while_merging(path: Path, **options: Any) -> pa.Table:
        if not merged and path.stem == store.blocks()[1]:
            merged.append(compact(Store(store.path)))
        return read(path, **options)

    monkeypatch.setattr(analysis.first_crossing, "read_parquet", while_merging)
    assert first_bins(store, level=0.5).equals(expected)
    assert merged


def test_a_metric_nobody_recorded_is_named_with_those_there_are(store: Store) -> None:
    with pytest.raises(NoSuchColumn, match="got 'los'; expected one of accuracy, loss"):
        first_bins(store, level=0.5, metric="los")


def test_an_empty_store_has_no_first_bins(tmp_path: Path) -> None:
    assert first_bins(Store.create(tmp_path / "s"), level=0.5).is_empty()
