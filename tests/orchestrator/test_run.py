"""What running a sweep promises: every run once, whoever asks, however it is launched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from sweeps import small
from tables import as_bytes, values
from views import Interrupting

from analysis.errors import StoreError
from analysis.store import Store
from analysis.upkeep import check
from orchestrator.errors import OrchestratorError
from orchestrator.outlook import Outlook
from orchestrator.packing import pack
from orchestrator.queue import CohortQueue
from orchestrator.rerun import rerun
from orchestrator.run import run_sweep
from orchestrator.worker import CohortWorker, pulse_or_error
from workloads.tasks import TwoStep
from workloads.watch import Watch

PATIENCE_S = 300.0  # with whatever else the machine does


def test_ray_and_inline_give_the_same_bytes(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    inline = run_sweep(sweep, store_path=tmp_path / "inline", launcher="inline", width=2)
    ray = run_sweep(sweep, store_path=tmp_path / "ray", launcher="ray", width=3, workers=2)
    assert inline.trained == ray.trained == 6
    for one, other in zip(values(tmp_path / "inline"), values(tmp_path / "ray"), strict=True):
        assert as_bytes(one) == as_bytes(other)


def test_the_same_sweep_again_trains_nothing(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    run_sweep(sweep, store_path=tmp_path / "store", launcher="inline")
    again = run_sweep(sweep, store_path=tmp_path / "store", launcher="inline")
    assert (again.trained, again.already, again.interrupted) == (0, 6, False)


def test_more_replicates_train_only_the_new_ones(tmp_path: Path) -> None:
    run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline")
    more = run_sweep(small(tmp_path, "replicates=5"), store_path=tmp_path / "store", launcher="inline")
    assert (more.trained, more.already) == (4, 6)


def test_sweeps_that_share_runs_train_them_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    run_sweep(small(tmp_path), store_path=store, launcher="inline")
    other = small(tmp_path, "axes.optim.lr=[1e-2,3e-2]", name="other")
    assert run_sweep(other, store_path=store, launcher="inline").trained == 3
    assert len(Store(store).runs_table()) == 9
    assert Store(store).sweeps() == ["other", "small"]
    assert check(Store(store)) == []


def test_a_diverging_run_is_a_row_and_its_neighbours_do_not_notice(tmp_path: Path) -> None:
    run_sweep(small(tmp_path), store_path=tmp_path / "calm", launcher="inline")
    wild = small(tmp_path, "axes.optim.lr=[1e-3,1e30,1e-2]")
    outcome = run_sweep(wild, store_path=tmp_path / "wild", launcher="inline")
    assert (outcome.trained, outcome.diverged, outcome.failed) == (9, 3, 0)
    wild_runs, wild_metrics = values(tmp_path / "wild")
    assert set(wild_runs.filter(pc.field("optim.lr") == 1e30)["status"].to_pylist()) == {"diverged"}
    runs, metrics = values(tmp_path / "calm")
    assert as_bytes(wild_runs.filter(pc.is_in(wild_runs["run_id"], runs["run_id"]))) == as_bytes(runs)
    assert as_bytes(wild_metrics.filter(pc.is_in(wild_metrics["run_id"], runs["run_id"]))) == as_bytes(metrics)


def test_a_run_that_cannot_be_trained_stands_alone_as_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, calls = TwoStep.world, []

    def broken(self, rng):
        calls.append(rng.initial_seed())
        if rng.initial_seed() == bad:
            raise ValueError("this world cannot be made")
        return world(self, rng)

    sweep = small(tmp_path, "axes.optim.lr=[1e-3]", "replicates=8")
    from workloads.streams import generator

    bad = generator(5, "world", device="cpu").initial_seed()
    monkeypatch.setattr(TwoStep, "world", broken)
    outcome = run_sweep(sweep, store_path=tmp_path / "store", launcher="inline", width=4)
    assert (outcome.trained, outcome.failed, outcome.interrupted) == (8, 1, False)
    row = Store(tmp_path / "store").runs_table().filter(pc.field("status") == "failed").to_pylist()[0]
    assert (row["seed.data"], row["reason"]) == (5, "ValueError: this world cannot be made")
    assert "in broken" in row["traceback"]
    assert check(Store(tmp_path / "store")) == []
    monkeypatch.undo()
    healed = run_sweep(sweep, store_path=tmp_path / "store", launcher="inline", retry_failed=True)
    assert (healed.trained, healed.failed) == (1, 0)


def test_a_store_that_takes_no_more_stops_the_sweep_and_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("store: no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", full)
        with pytest.raises(OrchestratorError, match="no space left"):
            run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline")
    assert run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline").trained == 6


def test_a_disk_that_fills_up_under_a_checkpoint_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, store = small(tmp_path, "base.budget.steps=3000"), tmp_path / "store"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OrchestratorError, match="No space left on device"):
            run_sweep(sweep, store_path=store, launcher="inline", checkpoint_s=0.1)
    assert "failed" not in Store(store).statuses().values()
    assert run_sweep(sweep, store_path=store, launcher="inline").failed == 0


def test_an_interrupt_saves_what_is_under_way(tmp_path: Path) -> None:
    sweep, store = small(tmp_path, "base.budget.steps=4000", "axes.optim.lr=[1e-3]", "replicates=2"), tmp_path / "store"
    first = run_sweep(sweep, store_path=store, launcher="inline", view=Interrupting())
    assert first.interrupted
    assert len(Store(store).checkpoints.furthest()) == 2
    rest = run_sweep(sweep, store_path=store, launcher="inline")
    assert (rest.trained, rest.interrupted) == (2, False)
    assert Store(store).checkpoints.furthest() == {}
    alone = rerun(store, sweep.runs[0].run_id)
    assert (alone.compared, alone.first_difference) == (4000, None)


def interrupt_when_saved(command: list[str], store: Path) -> str:
    """Press Ctrl-C once something is saved; returns what the command said."""
    before = {path: path.stat().st_mtime_ns for path in store.glob("checkpoints/*.npz")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, text=True) as process:
        output: list[str] = []
        drain = threading.Thread(target=lambda: output.append(process.stderr.read()))
        drain.start()
        until = time.monotonic() + PATIENCE_S
        while before == {path: path.stat().st_mtime_ns for path in store.glob("checkpoints/*.npz")}:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 130
        drain.join()
    return output[0]


@pytest.mark.parametrize(("launcher", "times"), [("inline", 3), ("ray", 1)])
def test_ctrl_c_leaves_with_130_and_the_same_command_goes_on(tmp_path: Path, launcher: str, times: int) -> None:
    changes = ["base.budget.steps=8000", "replicates=1"]
    run_sweep(small(tmp_path, *changes), store_path=tmp_path / "calm", launcher="inline")
    store, eureka = tmp_path / "store", str(Path(sys.executable).with_name("eureka"))
    command = [eureka, "run", str(tmp_path / "small.yaml"), *changes, "--no-report", "--launcher", launcher]
    command += ["--store", str(store), "--workers", "1", "--checkpoint-every", "0.3"]
    for _ in range(times):
        assert "the same command goes on" in interrupt_when_saved(command, store)
        assert Store(store).checkpoints.furthest()
    assert subprocess.run([*command, "--quiet"], timeout=120, check=False).returncode == 0
    assert check(Store(store)) == []
    for one, other in zip(values(store), values(tmp_path / "calm"), strict=True):
        assert as_bytes(one) == as_bytes(other)


def test_a_fault_in_the_middle_of_a_step_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, store = small(tmp_path, "base.budget.steps=4000", "axes.optim.lr=[1e-3]"), tmp_path / "store"
    update = Watch.update

    def breaking(self: Watch, loss: object, steps: object) -> None:
        if float(steps[0]) == 700:
            raise MemoryError("in the middle of a step")
        update(self, loss, steps)

    queue = CohortQueue(
        store=Store.create(store),
        sweep=sweep.name,
        cohorts=pack(sweep.runs, outlook=Outlook(width=4), workers=1),
        settings={"device": "cpu", "checkpoint_s": 100.0},
    )
    worker = CohortWorker(store=str(store), sweep=sweep.name, cohort=queue.take() or "")
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "update", breaking)
        while not (pulse := pulse_or_error(worker)).over:  # a busy machine needs several
            pass
        assert "in the middle of a step" in pulse.error
    worker.close()
    assert Store(store).checkpoints.furthest() == {}


def test_rerun_finds_every_bit_again_and_notices_one_that_changed(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    run_sweep(sweep, store_path=tmp_path / "store", launcher="inline")
    found = rerun(tmp_path / "store", sweep.runs[2].run_id[:9])
    assert (found.status, found.compared, found.first_difference) == ("finished", 60, None)
    store = Store(tmp_path / "store")
    import pyarrow.parquet as pq

    for path in store.metrics_paths():
        table = pq.read_table(path)
        loss = table["loss"].to_numpy().copy()
        loss[(table["step"].to_numpy() == 17)] += 1e-6
        pq.write_table(table.set_column(table.column_names.index("loss"), "loss", [loss]), path)
    assert rerun(tmp_path / "store", sweep.runs[2].run_id).first_difference == 17


def test_sigterm_ends_a_sweep_that_ray_trains_as_ctrl_c_does(tmp_path: Path) -> None:
    small(tmp_path, name="long")
    command = [str(Path(sys.executable).with_name("eureka")), "run", "long.yaml", "base.budget.steps=100000"]
    command += ["--store", "store", "--no-report", "--workers", "1", "--checkpoint-every", "0.5"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        output: list[str] = []
        drain = threading.Thread(target=lambda: output.append(process.stderr.read()))
        drain.start()
        until = time.monotonic() + PATIENCE_S
        while not list((tmp_path / "store").glob("checkpoints/*.npz")):
            assert time.monotonic() < until
            assert process.poll() is None, output
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=PATIENCE_S) == 130
        drain.join()
    assert "asked to stop by SIGTERM" in output[0]
    assert "logging.cc" not in output[0]
