"""Sweeps on a Ray that loses a node, scales itself, or loses its head: the tables are those of an undisturbed sweep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import HERE, ROOT, RUNS, SWEEP, lacking
from tables import as_bytes, values

from analysis.store import Store
from analysis.upkeep import check
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(lacking("unshare", "ip")), reason=lacking("unshare", "ip"))]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "small.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, sweep: Path) -> Path:
    """A store in which the sweep ran undisturbed."""
    store = tmp_path_factory.mktemp("calm") / "store"
    run_sweep(load_sweep(sweep), store_path=store, launcher="inline", width=4)
    return store


def play(scene: str, sweep: Path, store: Path) -> str:
    """What a scene of alone.py says; it must end well."""
    command = ["bash", str(HERE / "alone.sh"), sys.executable, str(HERE / "alone.py"), scene, str(sweep), str(store)]
    sets = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=sets, capture_output=True, text=True, timeout=1500, check=False)
    print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def assert_same(store: Path, calm: Path) -> None:
    """Nothing is lost, doubled or different."""
    assert len(Store(store).statuses()) == RUNS
    assert check(Store(store)) == []
    assert list((store / "checkpoints").iterdir()) == []
    for disturbed, undisturbed in zip(values(store), values(calm), strict=True):
        assert as_bytes(disturbed) == as_bytes(undisturbed)


def test_a_sweep_over_three_nodes_loses_one_and_nothing_else(tmp_path: Path, sweep: Path, calm: Path) -> None:
    said = play("nodes", sweep, tmp_path / "store")
    assert "1 worker lost, their cohorts went on" in said
    assert_same(tmp_path / "store", calm)


def test_a_worker_whose_machine_has_its_notice_saves_and_goes_on_elsewhere(
    tmp_path: Path, sweep: Path, calm: Path
) -> None:
    said = play("notice", sweep, tmp_path / "store")
    assert "its worker has saved" in said
    assert said.count("workers lost") == 0, "the new worker began on the machine that goes"
    assert_same(tmp_path / "store", calm)


def test_a_cluster_grows_for_a_sweep_and_shrinks_after_it(tmp_path: Path, sweep: Path) -> None:
    said = play("scaled", sweep, tmp_path / "store")
    assert "one node is left" in said
    assert len(Store(tmp_path / "store").statuses()) == RUNS
    assert check(Store(tmp_path / "store")) == []


def test_a_rayjobs_command_begun_again_after_the_heads_loss_loses_nothing(
    tmp_path: Path, sweep: Path, calm: Path
) -> None:
    play("entrypoint", sweep, tmp_path / "store")
    assert_same(tmp_path / "store", calm)
