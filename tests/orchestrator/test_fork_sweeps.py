"""Forks in a store: a sweep keeps weights, another starts from them; what is missing is said before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from sweeps import small

from analysis.store import Store
from analysis.upkeep import check
from orchestrator.cli import cli
from orchestrator.rerun import rerun
from orchestrator.run import run_sweep

KEEPS = "log.snapshots=[0,20,end]"


def asked(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [str(folder / "small.yaml"), *arguments, "--store", str(folder / "store"), "--launcher", "inline"]
    result = CliRunner().invoke(cli, ["run", *command, "--no-report", "--quiet"])
    return result.exit_code, result.stderr


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, str]:
    """A folder whose store has a sweep with snapshots, and one of its runs."""
    sweep = small(tmp_path, KEEPS)
    run_sweep(sweep, store_path=tmp_path / "store", launcher="inline")
    return tmp_path, sweep.runs[0].run_id


def test_a_sweep_keeps_the_weights_that_its_specs_ask_for(kept: tuple[Path, str]):
    folder, _ = kept
    store = Store(folder / "store")
    assert sorted(store.snapshots.there()) == sorted((run, step) for run in store.statuses() for step in (0, 20, 60))
    assert check(store) == []


def test_doctor_misses_a_snapshot_that_is_gone(kept: tuple[Path, str]):
    folder, run = kept
    store = Store(folder / "store")
    store.snapshots.path(run, 20).unlink()
    assert check(store) == [f"run {run}: no snapshot after 20 updates, which its spec asks for"]


def test_forks_train_from_the_stores_snapshots_and_again_with_the_same_bits(kept: tuple[Path, str]):
    folder, run = kept
    start = f"base.start_from={{run: {run}, step: 20}}"
    assert asked(folder, start, "axes.trainable.only=[embed,attention]") == (0, "")
    store = Store(folder / "store")
    rows = store.runs_table(["run_id", "status", "start_from.run", "trainable.only"]).to_pylist()
    forks = [row for row in rows if row["start_from.run"] == run]
    assert {row["trainable.only"] for row in forks} == {"embed", "attention"}
    assert {row["status"] for row in forks} == {"finished"}
    again = rerun(store.path, forks[0]["run_id"])
    assert (again.first_difference, again.compared) == (None, 60)


@pytest.mark.parametrize(("step", "said"), [(21, "those kept are 0, 20, 60"), (20, "train that run first")])
def test_a_missing_source_is_told_before_anything_trains(kept: tuple[Path, str], step: int, said: str):
    folder, run = kept
    run = run if step == 21 else "f" * 16
    before = len(Store(folder / "store").statuses())
    code, error = asked(folder, f"base.start_from={{run: {run}, step: {step}}}")
    assert (code, error.count("\n")) == (2, 1)
    assert said in error
    assert len(Store(folder / "store").statuses()) == before


def test_a_fork_without_any_store_is_told(tmp_path: Path):
    small(tmp_path)
    code, error = asked(tmp_path, f"base.start_from={{run: {'0' * 16}, step: 0}}")
    assert (code, error.count("\n")) == (2, 1)
    assert "start_from" in error


def test_a_damaged_source_fails_its_forks_alone(kept: tuple[Path, str]):
    folder, run = kept
    path = Store(folder / "store").snapshots.path(run, 20)
    path.write_bytes(path.read_bytes()[:300])
    code, _ = asked(folder, f"base.start_from={{run: {run}, step: 20}}", "axes.start_from.step=[0,20]", "replicates=1")
    rows = Store(folder / "store").runs_table(["run_id", "status", "reason", "start_from.step"]).to_pylist()
    assert code == 1
    assert {row["status"] for row in rows if row["start_from.step"] == 0} == {"finished"}
    failed = [row for row in rows if row["start_from.step"] == 20]
    assert {row["status"] for row in failed} == {"failed"}
    assert all("not readable" in row["reason"] for row in failed)
