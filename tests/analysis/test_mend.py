"""What is broken is found, mended without guessing, and gone; every run that was not touched stays as it was."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from ledger import TYPES, curve_of, row

from analysis import files, frames
from analysis.appended import Appended, sum_path
from analysis.detect import stored_events
from analysis.errors import StoreError
from analysis.files import read_parquet, write_json, write_parquet
from analysis.integrity.invariants import examine
from analysis.integrity.mend import mend, mend_marker
from analysis.probes import PROBES
from analysis.schema import schema
from analysis.store import Store
from analysis.upkeep import compact

RUNS = "abcdef"
BLOCKS = ("ab", "cd", "ef")  # f failed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three blocks of two runs, a checkpoint, snapshots, a probe, a search, kept EVENTS."""
    store = Store.create(tmp_path_factory.mktemp("whole") / "store")
    for pair in BLOCKS:
        rows = [row(run, status="failed" if run == "f" else "finished", **{"log.snapshots": "5"}) for run in pair]
        store.commit(rows, [curve_of(run) for run in pair if run != "f"], types=TYPES | {"log.snapshots": str})
    for run in "abcde":
        store.snapshots.save(run, 5, {"weight": np.arange(4.0)})
    store.checkpoints.save("k", {"g": {"step": np.array(3), "row": np.arange(9.0)}})
    store.probes.add("p", [dict.fromkeys(schema(PROBES).names) | {"probe_id": "1", "run_id": "a", "value": 0.5}])
    store.save_sweep({"name": "s", "runs": list(RUNS), "yaml": "question: x\n"})
    store.save_cohort("s", "k", {"members": [], "width": 1})
    store.save_trials("s", pa.table({"trial": [0], "state": ["complete"]}))
    write_json(store.sweep_dir("s") / "progress.json", {"at": 1})
    study = store.sweep_dir("s") / "study.journal"
    study.write_text('{"op_code": 0}\n')
    Appended(study).grown()
    stored_events(store)
    assert examine(store).findings == []
    return Path(str(store.path))


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(whole, tmp_path / "store"))


def block_of(store: Store, run: str) -> str:
    ledger = store.runs_table(columns=["run_id", "block"])
    return str(dict(zip(ledger["run_id"].to_pylist(), ledger["block"].to_pylist(), strict=True))[run])


def flip(path: Path, *, at: int = -40) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def repaired(store: Store) -> tuple[list[str], Store]:
    """What was said, and the store as another process finds it: without a fault."""
    said, after = mend(store, examine(store).findings), Store(store.path)
    assert examine(after).findings == []
    return said, after


Damage = Callable[[Store], None]
DAMAGES: dict[str, tuple[Damage, str, str]] = {  # what is done, what is found, which runs leave the ledger
    "a ledger file": (lambda s: flip(s.runs_path(block_of(s, "a"))), "its runs are not known", "ab"),
    "curves": (lambda s: flip(s.metrics_path(block_of(s, "c"))), "metrics/", "cd"),
    "curves beside a failed run": (lambda s: flip(s.metrics_path(block_of(s, "e"))), "metrics/", "e"),
    "missing curves": (lambda s: s.metrics_path(block_of(s, "c")).unlink(), "2 runs have no curve", "cd"),
    "a digest": (lambda s: flip(s.digest_path(block_of(s, "c"))), "digests/", ""),
    "a checkpoint": (lambda s: flip(s.path / "checkpoints" / "k.npz"), "checkpoints/k.npz: damaged", ""),
    "a snapshot": (lambda s: flip(s.snapshots.path("b", 5)), "snapshots/b-5.npz: damaged", "b"),
    "a missing snapshot": (lambda s: s.snapshots.path("b", 5).unlink(), "run b: no snapshot after 5", "b"),
    "a probe": (lambda s: flip(s.path / "probes" / "p.parquet"), "probes/p.parquet: not readable", ""),
    "kept events": (lambda s: flip(s.events_path("contrast-1")), "events/contrast-1.parquet", ""),
    "a sweep's record": (lambda s: flip(s.sweep_dir("s") / "sweep.json"), "sweep.json: not readable", ""),
    "a sweep's YAML": (lambda s: flip(s.sweep_dir("s") / "sweep.yaml", at=2), "sweep.yaml: is not what", ""),
    "a cohort": (lambda s: flip(s.sweep_dir("s") / "cohorts" / "k.json"), "cohorts/k.json: not readable", ""),
    "trials": (lambda s: flip(s.sweep_dir("s") / "trials.parquet"), "trials.parquet: not readable", ""),
    "a study": (lambda s: flip(s.sweep_dir("s") / "study.journal", at=3), "study.journal: not readable", ""),
    "a study's sum": (lambda s: flip(sum_path(s.sweep_dir("s") / "study.journal"), at=3), "study.journal.sum", ""),
    "progress": (lambda s: flip(s.sweep_dir("s") / "progress.json", at=3), "progress.json: not readable", ""),
    "a journal": (lambda s: (s.path / ".pending").write_text("{"), ".pending: not readable", ""),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_found_and_mended(store: Store, what: str) -> None:
    damage, text, leave = DAMAGES[what]
    before = {run: curve for (run,), curve in frames.metrics(store).collect().drop("block").group_by("run_id")}
    damage(store)
    assert any(text in one.text for one in examine(Store(store.path)).findings)
    said, after = repaired(store)
    assert said
    assert set(after.statuses()) == set(RUNS) - set(leave)
    for (run,), curve in frames.metrics(after).collect().drop("block").group_by("run_id"):
        assert curve.sort("step").equals(before[run].sort("step"))
    assert frames.digest(after)["run_id"].unique().sort().to_list() == sorted(set("abcde") - set(leave))


def test_what_was_damaged_is_kept_aside_as_it_was(store: Store) -> None:
    path = store.metrics_path(block_of(store, "c"))
    flip(path)
    damaged = path.read_bytes()
    repaired(store)
    (kept,) = (store.path / "damaged").glob(f"*/metrics/{path.name}")
    assert kept.read_bytes() == damaged
    assert not path.exists()


def test_runs_set_aside_can_be_committed_again(store: Store) -> None:
    flip(store.metrics_path(block_of(store, "c")))
    _, after = repaired(store)
    again = after.commit([row("c"), row("a")], [curve_of("c"), curve_of("a")], types=TYPES)
    assert again == ["c"]


def test_of_a_block_only_the_wrong_run_leaves(store: Store) -> None:
    block = block_of(store, "c")
    table = read_parquet(store.metrics_path(block))
    lost = pc.and_(pc.equal(table["run_id"], "c"), pc.equal(table["step"], 7))
    write_parquet(store.metrics_path(block), table.filter(pc.invert(lost)))
    assert [one.text for one in examine(store).findings] == [f"run c: 19 rows for 20 steps in metrics/{block}.parquet"]
    said, after = repaired(store)
    assert set(after.statuses()) == set("abdef")
    assert said[0].startswith(f"took 1 run out of block {block}")


def test_of_a_damaged_file_the_runs_in_whole_parts_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROUP_ROWS", 20)
    compact(store)
    (block,) = store.blocks()
    path = Path(str(store.metrics_path(block)))
    assert pq.read_metadata(path).num_row_groups == 5  # one a run that has a curve
    before = frames.metrics(store).collect().drop("block").sort("run_id", "step")
    flip(path, at=pq.read_metadata(path).row_group(2).column(4).data_page_offset + 30)
    (found,) = examine(store).findings
    assert "; 4 of its 5 runs lie in parts that are whole" in found.text
    _, after = repaired(store)
    assert set(after.statuses()) == set("abdef")
    now = frames.metrics(after).collect().drop("block").sort("run_id", "step")
    assert now.equals(before.filter(pl.col("run_id") != "c"))


def test_a_run_committed_twice_alike_stays_once(store: Store) -> None:
    block = block_of(store, "a")
    for part in ("runs", "metrics"):
        table = read_parquet(store.path / part / f"{block}.parquet")
        at = table.schema.get_field_index("block")
        again = table.set_column(at, table.schema.field(at), pa.array(["twice"] * len(table)))
        write_parquet(store.path / part / "twice.parquet", again)
    assert sum("committed twice" in one.text for one in examine(store).findings) == 2
    _, after = repaired(store)
    assert set(after.statuses()) == set(RUNS)


def test_a_run_committed_twice_differently_stays_in_neither(store: Store) -> None:
    table = read_parquet(store.runs_path(block_of(store, "a")))
    rows = [
        one | {"block": "twice", "status": "diverged"} for one in table.filter(pc.field("run_id") == "a").to_pylist()
    ]
    write_parquet(store.runs_path("twice"), pa.Table.from_pylist(rows, schema=table.schema))
    curves = read_parquet(store.metrics_path(block_of(store, "a"))).filter(pc.field("run_id") == "a")
    at = curves.schema.get_field_index("block")
    write_parquet(
        store.metrics_path("twice"), curves.set_column(at, curves.schema.field(at), pa.array(["twice"] * len(curves)))
    )
    _, after = repaired(store)
    assert set(after.statuses()) == set("bcdef")


def test_orphans_are_found_and_removed(store: Store) -> None:
    for part in ("metrics", "digests"):
        source = store.path / part / f"{block_of(store, 'a')}.parquet"
        shutil.copy(source, store.path / part / "stray.parquet")
    texts = [one.text for one in examine(store).findings]
    assert texts == [
        "metrics/stray.parquet: belongs to no ledger file; its rows are no one's",
        "digests/stray.parquet: belongs to no ledger file",
    ]
    _, after = repaired(store)
    assert not (after.path / "metrics" / "stray.parquet").exists()


def test_a_block_that_is_just_being_written_is_no_fault(store: Store) -> None:
    write_json(store.path / ".pending", {"block": "new", "replaces": []})
    shutil.copy(store.metrics_path(block_of(store, "a")), store.path / "metrics" / "new.parquet")
    with (store.path / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert examine(store).findings == []
    texts = [one.text for one in examine(store).findings]
    assert texts[0] == ".pending: block new was left half-written; the next run into this store settles it"
    repaired(store)


@pytest.mark.parametrize("dropped", range(9))
def test_a_merge_that_was_killed_is_settled_and_costs_no_run(store: Store, dropped: int) -> None:
    before, old = frames.runs(store).drop("block", "ended_at"), store.blocks()
    parts = (store.runs_path, store.metrics_path, store.digest_path)
    kept = [(path_of(block), path_of(block).read_bytes()) for block in old for path_of in parts]
    compact(store)
    (new,) = store.blocks()
    for path, content in kept[dropped:]:
        path.write_bytes(content)
    write_json(store.path / ".pending", {"block": new, "replaces": old})
    texts = [one.text for one in examine(store).findings]
    assert texts == [f".pending: block {new} was left half-written; the next run into this store settles it"]
    said, after = repaired(store)
    assert said == ["settled what killed writers left"]
    assert frames.runs(after).drop("block", "ended_at").equals(before)
    assert after.blocks() == [new]


def test_unfinished_files_of_killed_writers_are_removed(store: Store) -> None:
    old, young = store.path / "runs" / ".a.tmp", store.path / "metrics" / ".b.tmp"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, 0))
    assert mend(store, []) == ["removed 1 files that killed writers left unfinished"]
    assert (old.exists(), young.exists()) == (False, True)


def test_a_dry_run_says_the_same_and_does_nothing(store: Store) -> None:
    for what in ("curves", "a digest", "a checkpoint", "a sweep's YAML", "a journal", "a cohort"):
        DAMAGES[what][0](store)
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    found = examine(store).findings
    said = mend(store, found, dry_run=True)
    assert {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()} == before
    done = mend(store, found)
    assert [line for line in said if line not in done] == []


def test_a_damaged_marker_is_written_again(store: Store) -> None:
    marker = store.path / "eureka.json"
    whole = marker.read_bytes()
    flip(marker, at=5)
    with pytest.raises(StoreError, match="not a store's marker"):
        Store(store.path)
    assert mend_marker(store.path, dry_run=True) == mend_marker(store.path) == ["wrote eureka.json again"]
    assert marker.read_bytes() == whole
    assert examine(Store(store.path)).findings == []


def test_a_marker_alone_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "eureka.json").write_text("{")
    with pytest.raises(StoreError, match="nothing beside it says that this is a store"):
        mend_marker(tmp_path)


def test_a_file_that_lost_its_checksum_is_not_trusted(store: Store) -> None:
    path = store.metrics_path(block_of(store, "c"))
    pq.write_table(read_parquet(path), path)
    (found,) = examine(store).findings
    assert "carries no checksum, as every file of this store should" in found.text
    _, after = repaired(store)
    assert set(after.statuses()) == set("abef")


def test_in_an_old_store_files_without_checksum_are_counted(store: Store) -> None:
    write_json(store.path / "eureka.json", {"schema_version": 1})
    pq.write_table(read_parquet(store.runs_path(block_of(store, "c"))), store.runs_path(block_of(store, "c")))
    examined = examine(Store(store.path))
    assert examined.findings == []
    assert (examined.unverified, examined.files["runs"]) == ({"runs": 1}, 2)


def test_untouched_runs_keep_every_bit_through_a_repair(store: Store) -> None:
    before = frames.runs(store).filter(pl.col("run_id") != "b").drop("block")
    store.snapshots.path("b", 5).unlink()
    _, after = repaired(store)
    assert frames.runs(after).drop("block").equals(before)
