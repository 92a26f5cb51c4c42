"""kill -9 of a worker, of the driver and of everything, then the same command: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tables import as_bytes, values

from analysis.store import Store
from analysis.upkeep import check
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep

SWEEP = """
question: Does anything get lost?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 16, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 3000, batch: 16}
axes:
  optim.lr: [1.0e-3, 3.0e-3, 1.0e+30]
replicates: 4
log: {measures_every_steps: 100}
stop: {after_event_steps: 2500}
"""
PATIENCE_S = 300.0


def start(sweep: Path, store: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("eureka")), "run", str(sweep), "--store", str(store)]
    command += ["--width", "4", "--workers", "2", "--checkpoint-every", "0.5", "--no-report", "--quiet"]
    return subprocess.Popen(command, start_new_session=True)


def descendants(pid: int) -> list[int]:
    """Processes below a process, as /proc shows them now."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := read(entry / "stat")):
            parents[int(entry.name)] = int(stat.rpartition(b")")[2].split()[1])
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return sorted(below - {pid})


def workers(pid: int) -> list[int]:
    return [child for child in descendants(pid) if b"Trainable" in read(Path(f"/proc/{child}/cmdline"))]


def read(path: Path) -> bytes:
    """A file of /proc; empty when its process is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def safe_steps(path: Path) -> int:
    """Steps that a crash now would not cost."""
    store = Store(path)
    committed = sum(store.runs_table()["steps"].to_pylist())
    return committed + sum(
        step for run, (_, step) in store.checkpoints.furthest().items() if run not in store.statuses()
    )


def wait_for_progress(process: subprocess.Popen[bytes], store: Path, *, beyond: int) -> int:
    """Wait until more than `beyond` steps are safe, with the sweep still under way."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, "the sweep was over before it could be disturbed"
        if (store / "eureka.json").exists() and (steps := safe_steps(store)) > beyond:
            return steps
        time.sleep(0.2)
    raise AssertionError("no progress")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "a sweep.yaml"
    path.write_text("name: crash\n" + SWEEP)
    return path


def test_killed_sweeps_end_with_the_undisturbed_tables(tmp_path: Path, sweep: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    run_sweep(load_sweep(sweep), store_path=calm, launcher="inline", width=4)

    driver = start(sweep, rough)
    steps = wait_for_progress(driver, rough, beyond=1000)
    os.kill(workers(driver.pid)[0], signal.SIGKILL)
    steps = wait_for_progress(driver, rough, beyond=steps + 1000)
    driver.kill()  # the driver alone
    driver.wait()

    driver = start(sweep, rough)
    wait_for_progress(driver, rough, beyond=steps + 1000)
    for pid in [*descendants(driver.pid), driver.pid]:  # everything at once
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    driver.wait()
    assert len(Store(rough).statuses()) < 12, "nothing was left to go on with"

    assert start(sweep, rough).wait(timeout=PATIENCE_S) == 0
    assert check(Store(rough)) == []
    for disturbed, undisturbed in zip(values(rough), values(calm), strict=True):
        assert as_bytes(disturbed) == as_bytes(undisturbed)
    everything = pq.read_table(rough / "metrics").select(["run_id", "step"])  # as a stranger reads it
    counts = everything.group_by(["run_id", "step"]).aggregate([([], "count_all")])
    assert max(counts["count_all"].to_pylist()) == 1
    assert list((rough / "checkpoints").iterdir()) == []
