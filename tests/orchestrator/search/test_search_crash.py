"""kill -9 of a search's driver at random moments, then the same command: every trial and every run exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from searches import TEXT, small_search

from analysis.store import Store
from analysis.upkeep import check
from orchestrator.run import run_sweep

PATIENCE_S = 120.0


def start(sweep: Path, store: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("eureka")), "run", str(sweep), "--store", str(store), *arguments]
    command += ["--checkpoint-every", "0.5", "--no-report", "--quiet"]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def work_and_kill(sweep: Path, store: Path, *arguments: str, rng: random.Random, most_s: float) -> bool:
    """Start the search, wait until it writes to its study, kill it a moment later; false where it was done before."""
    journal = store / "sweeps" / "small" / "study.journal"
    before, until = size(journal), time.monotonic() + PATIENCE_S
    process = start(sweep, store, *arguments)
    try:
        while size(journal) == before and process.poll() is None:
            assert time.monotonic() < until, "the search did not begin"
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, most_s))
        return process.poll() is None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def survives(
    tmp_path: Path,
    *,
    kills: int,
    configs: int,
    seed: int,
    most_s: float = 1.0,
    launcher: str = "inline",
    name: str = "tpe",
) -> None:
    sweep = small_search(tmp_path, text=TEXT.replace("configs: 6", f"configs: {configs}").replace("random", name))
    store, rng, hit = tmp_path / "store", random.Random(seed), 0
    arguments = ["--launcher", launcher, *(["--workers", "2"] if launcher == "ray" else [])]
    for _ in range(kills):
        hit += work_and_kill(tmp_path / "small.yaml", store, *arguments, rng=rng, most_s=most_s)
    assert hit == kills, "the search was done before it could be killed so often"
    outcome = run_sweep(sweep, store_path=store, launcher="inline")
    assert not outcome.interrupted
    each_once(Store(store), configs=configs)


def each_once(store: Store, *, configs: int, url: str | None = None) -> None:
    """Trials in the study, in the table and in the ledger are the same, and none is lost or doubled."""
    table = store.trials("small")
    assert table is not None
    rows = table.to_pylist()
    assert [row["trial"] for row in rows] == list(range(len(rows)))
    asked = [row for row in rows if row["state"] == "complete"]
    unasked = [row for row in rows if row["state"] != "complete"]
    assert len(asked) == configs
    assert {(row["state"], row["reason"]) for row in unasked} <= {("failed", "the driver ended while it was asked")}
    trials = read_study(store, url=url)
    states = Counter(trial.state.name for trial in trials)
    assert states == Counter({"COMPLETE": configs, "FAIL": len(unasked)}) + Counter()
    assert {trial.number: trial.value for trial in trials if trial.value is not None} == {
        row["trial"]: row["value:p_eureka"] for row in asked
    }
    ledger = store.runs_table(columns=["run_id", "config_id"]).to_pylist()
    assert Counter(run["config_id"] for run in ledger) == Counter({row["config_id"]: 2 for row in asked})
    assert set(store.sweep("small")["runs"]) == {run["run_id"] for run in ledger}
    assert check(store) == []


def read_study(store: Store, *, url: str | None) -> list[optuna.trial.FrozenTrial]:
    """What another process sees of the study."""
    path = store.path / "sweeps" / "small" / "study.journal"
    if url is None:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
        return optuna.load_study(study_name="small", storage=storage).trials
    database = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name="small", storage=database).trials
    finally:
        database.remove_session()
        database.engine.dispose()


def test_a_search_survives_kills_of_its_driver(tmp_path: Path) -> None:
    survives(tmp_path, kills=2, configs=24, seed=1, most_s=0.6)


@pytest.mark.slow
def test_a_search_survives_twenty_kills_of_its_driver(tmp_path: Path) -> None:
    survives(tmp_path, kills=24, configs=240, seed=2, most_s=0.7)


@pytest.mark.slow
def test_a_search_through_ray_survives_kills_of_everything(tmp_path: Path) -> None:
    survives(tmp_path, kills=3, configs=60, seed=3, most_s=12.0, launcher="ray")
