"""Sweeps into a bucket that a real gateway keeps, killed and shared: what every gateway must come through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hosts import ROOT
from tables import as_bytes, values

from analysis.places.place import is_there
from analysis.store import Store
from analysis.upkeep import check
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep

PATIENCE_S = 900.0
SWEEP = """
name: {name}
question: Does anything get lost?
base:
  task: {{name: two_step, n_targets: 3, n_classes: 3, features: 8}}
  model: {{width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}}
  optim: {{name: adamw, lr: 1.0e-3}}
  budget: {{steps: {steps}, batch: 8}}
axes:
  optim.lr: [1.0e-3, 1.0e+30]
replicates: {replicates}
log: {{measures_every_steps: 100}}
"""


def write(folder: Path, *, name: str, steps: int, replicates: int) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SWEEP.format(name=name, steps=steps, replicates=replicates))
    return path


def calm(sweep: Path, store: Path) -> Path:
    """The same sweep in a folder, undisturbed."""
    run_sweep(load_sweep(sweep), store_path=store, launcher="inline", width=4)
    return store


def start(sweep: Path, address: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "orchestrator.cli", "run", str(sweep), "--store", address, "--no-report"]
    command += ["--width", "4", "--checkpoint-every", "0.5", *(more or ("--workers", "2"))]
    sets = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, start_new_session=True, env=sets)


def end(process: subprocess.Popen[bytes]) -> None:
    """kill -9, of the command and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def safe_steps(address: str) -> int:
    """Steps that a crash now would not cost."""
    if not is_there(address):
        return 0
    store = Store(address)
    saved = store.checkpoints.furthest().items()
    return sum(store.runs_table()["steps"].to_pylist()) + sum(
        step for run, (_, step) in saved if run not in store.statuses()
    )


def wait(is_so: Callable[[], object], what: str) -> None:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < PATIENCE_S, what
        time.sleep(0.5)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def assert_same(address: str, folder: Path) -> None:
    for here, there in zip(values(folder), values(address), strict=True):  # type: ignore[arg-type]
        assert as_bytes(here) == as_bytes(there)
    assert check(Store(address)) == []
    assert Store(address).checkpoints.furthest() == {}


def share_and_kill_one(address: str, folder: Path) -> None:
    """Two commands share a sweep, one is killed, the other does all."""
    sweep = write(folder, name="shared", steps=200, replicates=4)
    undisturbed = calm(sweep, folder / "calm")
    one, other = (start(sweep, address, "--launcher", "inline", "--share") for _ in range(2))
    wait(lambda: safe_steps(address) > 100, "both under way")
    end(one)
    wait(lambda: other.poll() is not None, "the other has done all")
    assert other.returncode == 0
    assert_same(address, undisturbed)


def kill_between_requests(address: str, folder: Path) -> None:
    """A sweep dies between every two requests that change the bucket, each time in a store of its own, and goes on."""
    sweep = write(folder, name="dying", steps=40, replicates=1)
    undisturbed = calm(sweep, folder / "calm")
    script = ROOT / "tests" / "orchestrator" / "dying.py"
    sets = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(script), str(sweep), address, "fresh", "1"]
    done = subprocess.run(words, env=sets, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    deaths = int(done.stdout)
    print(f"died {deaths} times, once after each request that changes the bucket")
    assert deaths > 10
    for n in range(1, deaths + 2):
        assert_same(f"{address}/{n:04d}", undisturbed)
