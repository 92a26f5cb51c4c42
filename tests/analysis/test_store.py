"""What the store promises: a run is in it once and whole, or not at all; strangers' folders stay untouched."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from ledger import TYPES, curve_of, row

import analysis.store
from analysis import frames
from analysis.errors import StoreError
from analysis.places.local_place import LocalPlace
from analysis.schema import METRICS, RUNS
from analysis.store import Store
from analysis.upkeep import check


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "a store")


def commit(store: Store, *runs: str, steps: int = 20) -> list[str]:
    return store.commit(
        [row(run, steps=steps) for run in runs], [curve_of(run, steps=steps) for run in runs], types=TYPES
    )


def test_committed_runs_have_each_step_once(store: Store) -> None:
    commit(store, "a", "b")
    commit(store, "c")
    metrics = pl.read_parquet(store.path / "metrics" / "*.parquet")
    assert metrics.group_by("run_id", "step").len()["len"].to_list() == [1] * 60
    assert store.statuses() == dict.fromkeys("abc", "finished")


def test_a_run_that_is_there_is_not_added_again(store: Store) -> None:
    commit(store, "a")
    assert Store(store.path).commit([row("a"), row("b")], [curve_of("a", seed=1), curve_of("b")], types=TYPES) == ["b"]
    metrics = pl.read_parquet(store.path / "metrics" / "*.parquet")
    assert len(metrics) == 40
    first = metrics.filter(pl.col("run_id") == "a").sort("step")["loss"].to_numpy()
    assert np.array_equal(first, curve_of("a")["loss"].to_numpy())


def test_every_fixed_column_is_there_with_its_type(store: Store) -> None:
    commit(store, "a")
    runs, metrics = store.runs_table(), pq.read_table(store.metrics_paths()[0])
    assert {column.name: runs.schema.field(column.name).type for column in RUNS} == {c.name: c.dtype for c in RUNS}
    for column in METRICS:
        assert metrics.schema.field(column.name).type == column.dtype


def test_measures_are_null_where_they_were_not_taken(store: Store) -> None:
    commit(store, "a")
    entropy = pl.read_parquet(store.metrics_paths()[0])["entropy"]
    assert entropy.null_count() == 16


def test_a_column_of_nulls_has_its_type(store: Store) -> None:
    store.commit([row("a", **{"optim.clip_norm": None})], [curve_of("a")], types={"optim.clip_norm": float})
    store.commit([row("b", **{"optim.clip_norm": 0.5})], [curve_of("b")], types={"optim.clip_norm": float})
    assert pl.read_parquet(store.path / "runs" / "*.parquet")["optim.clip_norm"].to_list() == [None, 0.5]


def test_runs_of_different_tasks_stand_side_by_side(store: Store) -> None:
    store.commit([row("a", **{"task.noise": 0.5})], [curve_of("a")], types={"task.noise": float})
    store.commit([row("b", **{"task.pairs": 3})], [curve_of("b")], types={"task.pairs": int})
    table = pl.from_arrow(store.runs_table()).sort("run_id")
    assert table["task.noise"].to_list() == [0.5, None]
    assert table["task.pairs"].to_list() == [None, 3]


@pytest.mark.parametrize("moment", ["metrics", "digests", "runs", "journal cleared"])
def test_a_writer_killed_at_any_moment_leaves_all_or_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        pass

    write, settle = analysis.store.write_parquet, LocalPlace._settle

    def dying_write(path: Path, table: object) -> None:
        if path.parent.name == {"metrics": "digests", "digests": "runs"}.get(moment):
            raise Killed  # the curves are in place, what comes after them is not
        write(path, table)
        if path.parent.name == "runs" and moment == "runs":
            raise Killed

    def dying_settle(*args: object) -> None:
        raise Killed

    commit(store, "a")
    with monkeypatch.context() as patch:
        patch.setattr(analysis.store, "write_parquet", dying_write)
        if moment == "journal cleared":
            patch.setattr(LocalPlace, "_settle", dying_settle)
        with pytest.raises(Killed):
            commit(store, "b", "c")
    assert settle is LocalPlace._settle
    later = Store(store.path)
    there = set(later.statuses())
    assert there == ({"a"} if moment in ("metrics", "digests") else {"a", "b", "c"})
    assert set(frames.digest(later)["run_id"]) == there
    assert {run for path in later.metrics_paths() for run in pq.read_table(path)["run_id"].to_pylist()} == there
    added = commit(later, "b", "c", "d")
    assert set(added) == {"b", "c", "d"} - there
    stranger = pl.read_parquet(store.path / "metrics" / "*.parquet").group_by("run_id").len()
    assert dict(stranger.iter_rows()) == dict.fromkeys("abcd", 20)
    assert not (store.path / ".pending").exists()
    assert check(store) == []
    digests = pl.read_parquet(store.path / "digests" / "*.parquet").filter(metric="loss").group_by("run_id").len()
    assert dict(digests.iter_rows()) == dict.fromkeys("abcd", 2)


def test_a_store_of_before_there_were_digests_takes_new_runs(store: Store) -> None:
    commit(store, "a", "b")
    expected = frames.digest(store)
    shutil.rmtree(store.path / "digests")
    old = Store(store.path)
    assert frames.digest(old).equals(expected)
    commit(old, "c")
    assert [path.stem for path in old.files("digests")] == old.blocks()[1:]
    assert set(frames.digest(old)["run_id"]) == {"a", "b", "c"}
    assert check(old) == []


def _commit_all(path: Path, seed: int) -> None:
    store = Store(path)
    for run in np.random.default_rng(seed).permutation([f"run{i:02d}" for i in range(24)]):
        commit(store, str(run))


def test_writers_at_the_same_time_never_double_a_run(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_commit_all, args=(store.path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    runs = pl.read_parquet(store.path / "runs" / "*.parquet")["run_id"].to_list()
    assert sorted(runs) == [f"run{i:02d}" for i in range(24)]
    assert len(pl.read_parquet(store.path / "metrics" / "*.parquet")) == 24 * 20
    assert len(pl.read_parquet(store.path / "digests" / "*.parquet").filter(metric="loss")) == 24 * 2


def test_a_full_disk_is_one_line_and_leaves_the_store_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, "a")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device"):
            commit(store, "b")
    assert commit(store, "b") == ["b"]
    assert [path.name for path in store.path.rglob("*.tmp")] == []


@pytest.mark.parametrize("part", ["metrics", "digests", "runs"])
def test_a_disk_that_fills_at_any_file_adds_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    commit(store, "a")
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.parent.name == part:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match=f"{part}/.*No space left on device"):
            commit(store, "b")
    assert set(Store(store.path).statuses()) == {"a"}
    assert commit(store, "b") == ["b"]
    assert [len(store.files(name)) for name in ("metrics", "digests", "runs")] == [2, 2, 2]


def test_failed_rows_can_be_taken_back(store: Store) -> None:
    store.commit([row("a"), row("b", status="failed")], [curve_of("a")], types=TYPES)
    store.forget_failed(["a", "b"])
    assert Store(store.path).statuses() == {"a": "finished"}
    assert commit(store, "b") == ["b"]


def test_saved_states_come_back_as_they_were_and_the_furthest_wins(store: Store) -> None:
    state = {"step": np.array(7), "row": np.arange(5, dtype=np.float32)}
    store.checkpoints.save("k1", {"a": state, "b": state})
    store.checkpoints.save("k2", {"a": state | {"step": np.array(9)}})
    places = store.checkpoints.furthest()
    assert {run: step for run, (_, step) in places.items()} == {"a": 9, "b": 7}
    back = store.checkpoints.load("b", places["b"][0])
    assert back is not None
    assert np.array_equal(back["row"], state["row"])
    assert set(back) == {"step", "row"}


def test_a_damaged_checkpoint_is_no_checkpoint(store: Store) -> None:
    store.checkpoints.save("k1", {"a": {"step": np.array(7), "row": np.zeros(1000)}})
    path = store.path / "checkpoints" / "k1.npz"
    path.write_bytes(path.read_bytes()[:-200])
    assert store.checkpoints.furthest() == {}
    assert store.checkpoints.load("a", path) is None


def test_spent_checkpoints_go_and_others_stay(store: Store) -> None:
    state = {"step": np.array(7)}
    store.checkpoints.save("k1", {"a": state})
    store.checkpoints.save("k2", {"a": state, "b": state})
    commit(store, "a")
    store.checkpoints.drop_spent(store.statuses())
    assert [path.name for path in store.files("checkpoints", ".npz")] == ["k2.npz"]


def test_a_strangers_folder_is_neither_read_nor_written(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(StoreError, match=r"not a store, and not empty \(thesis.tex …\)"):
        Store.create(tmp_path)
    with pytest.raises(StoreError, match="no store here"):
        Store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_places_that_cannot_be_written_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/eureka")):
        with pytest.raises(StoreError) as refusal:
            Store.create(place)
        assert "\n" not in str(refusal.value)
        assert "give another --store" in str(refusal.value)


@pytest.mark.parametrize("marker", ['{"schema_version": 999}', "[]", "{", '{"schema_version": "x"}', '{"other": 1}'])
def test_a_store_of_another_layout_is_refused(tmp_path: Path, marker: str) -> None:
    (tmp_path / "eureka.json").write_text(marker)
    with pytest.raises(StoreError) as refusal:
        Store(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_sweeps_name_cannot_leave_the_store(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="sweep name"):
        store.sweep_dir(name)


def test_an_unknown_sweep_lists_those_there_are(store: Store) -> None:
    store.save_sweep({"name": "temperature", "runs": [], "yaml": "a: 1"})
    with pytest.raises(StoreError, match="no sweep named 'temprature'; there are: temperature"):
        store.sweep("temprature")


def test_a_run_that_is_handed_in_twice_is_written_once(store: Store) -> None:
    assert commit(store, "a", "b", "a") == ["a", "b"]
    metrics = pl.read_parquet(store.metrics_paths())
    assert sorted(metrics["run_id"].to_list()) == ["a"] * 20 + ["b"] * 20
    assert check(store) == []
