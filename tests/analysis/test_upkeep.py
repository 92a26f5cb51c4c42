"""Merging loses nothing and can be killed; the check finds what was planted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger import TYPES, curve_of, row

import analysis.upkeep
from analysis import frames
from analysis.files import read_parquet, write_parquet
from analysis.places.local_place import LocalPlace
from analysis.store import Store
from analysis.upkeep import check, compact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    for run in "dbca":
        store.commit([row(run)], [curve_of(run)], types=TYPES)
    store.commit([row("e", status="failed")], [], types=TYPES)
    return store


def curves(store: Store) -> pl.DataFrame:
    return pl.read_parquet(store.metrics_paths()).drop("block").sort("run_id", "step")


def test_merging_keeps_every_value(store: Store) -> None:
    before, runs = curves(store), store.runs_table().drop_columns("block").sort_by("run_id")
    digests = {metric: frames.digest(store, metric=metric) for metric in ("loss", "entropy")}
    merge = compact(store)
    assert (merge.before, merge.after, merge.rows) == (5, 1, 80)
    assert curves(store).equals(before)
    assert [path.stem for path in store.files("digests")] == store.blocks()
    assert all(frames.digest(store, metric=metric).equals(digest) for metric, digest in digests.items())
    assert store.runs_table().drop_columns("block").sort_by("run_id").equals(runs)
    assert check(store) == []


def test_merged_runs_lie_together_in_step_order(store: Store) -> None:
    compact(store)
    merged = pl.read_parquet(store.metrics_paths())
    assert merged.equals(merged.sort("run_id", "step"))


def test_large_stores_merge_into_several_blocks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis.upkeep, "MERGED_ROWS", 45)
    before = curves(store)
    assert compact(store).after == 2
    assert curves(store).equals(before)


def test_a_merge_killed_half_way_is_finished_by_the_next_writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def dying(*_: object) -> None:
        raise Killed

    before = curves(store)
    with monkeypatch.context() as patch:
        patch.setattr(LocalPlace, "_settle", dying)
        with pytest.raises(Killed):
            compact(store)
    reader = Store(store.path)
    assert len(reader.runs_table()) == 5  # old and new blocks are both there: still one row a run
    reader.commit([row("f")], [curve_of("f")], types=TYPES)
    assert curves(reader).filter(pl.col("run_id") != "f").equals(before)
    assert len(reader.files("digests")) == len(reader.files("metrics")) == 2
    assert check(reader) == []


def test_merging_removes_what_killed_writers_left_long_ago(store: Store) -> None:
    old, young = store.path / "runs" / ".a.tmp", store.path / "metrics" / ".b.tmp"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, 0))
    compact(store)
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("blocks", [1, 4])
def test_compacting_makes_the_digests_that_are_missing(tmp_path: Path, blocks: int) -> None:
    store = Store.create(tmp_path / "old")
    for run in "abcd"[:blocks]:
        store.commit([row(run)], [curve_of(run)], types=TYPES)
    expected = frames.digest(store)
    shutil.rmtree(store.path / "digests")
    compact(store)
    assert [path.stem for path in store.files("digests")] == store.blocks()
    assert frames.digest(store).equals(expected)
    assert check(store) == []


def test_a_digest_of_another_definition_is_replaced(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "old")
    store.commit([row("a")], [curve_of("a")], types=TYPES)
    path = store.digest_path(store.blocks()[0])
    right = path.read_bytes()
    write_parquet(path, read_parquet(path).replace_schema_metadata({b"digest_version": b"0"}))
    assert check(store) == []
    compact(store)
    assert path.read_bytes() == right


def test_digests_of_no_block_are_found_and_removed(store: Store) -> None:
    stray = store.digest_path("stray")
    stray.write_bytes(store.digest_path(store.blocks()[0]).read_bytes())
    assert check(store) == ["digests/stray.parquet: belongs to no ledger file"]
    compact(store)
    assert not stray.exists()
    assert check(store) == []


def test_a_digest_that_is_not_its_curves_is_found(store: Store) -> None:
    path = store.digest_path(store.blocks()[0])
    table = pq.read_table(path)
    values = table["value"].to_numpy() + np.eye(1, len(table))[0]
    pq.write_table(table.set_column(5, table.schema.field("value"), pa.array(values)), path)
    (problem,) = check(store)
    assert "is not the digest of metrics/" in problem
    assert "`eureka compact" in problem


def test_an_untouched_store_has_no_problems(store: Store) -> None:
    assert check(store) == []


def test_planted_faults_are_all_found(store: Store) -> None:
    blocks = store.blocks()
    pq.write_table(pq.read_table(store.metrics_path(blocks[0])).slice(1), store.metrics_path(blocks[0]))
    store.metrics_path(blocks[1]).unlink()
    path = store.runs_path(blocks[2])
    path.write_bytes(path.read_bytes()[:-9])
    (store.path / "metrics" / "stray.parquet").write_bytes(store.metrics_path(blocks[3]).read_bytes())
    store.runs_path("again").write_bytes(store.runs_path(blocks[3]).read_bytes())
    store.checkpoints.save("k", {"a": {"step": np.array(1), "row": np.zeros(99)}})
    saved = store.path / "checkpoints" / "k.npz"
    saved.write_bytes(saved.read_bytes()[:-50])
    (store.path / ".pending").write_text("{")
    text = "\n".join(check(store))
    for fault in (
        "run d: 19 rows for 20 steps",
        f"metrics/{blocks[1]}.parquet: missing",
        f"runs/{blocks[2]}.parquet: not readable",
        "metrics/stray.parquet: belongs to no ledger file",
        "run a: committed twice",
        "checkpoints/k.npz: damaged",
        ".pending: not readable",
    ):
        assert fault in text
