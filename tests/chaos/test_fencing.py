"""An attempt that was superseded commits nothing; of two commands on a sweep, both share it, or one says who has it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import StoreError
from analysis.places import locks
from analysis.store import Store
from orchestrator.claims import Claims
from orchestrator.errors import BadRequest
from orchestrator.packing import cohort_of
from orchestrator.pulse import Pulse
from orchestrator.queue import CohortQueue
from orchestrator.run import run_sweep
from orchestrator.sweep import Sweep, load_sweep
from orchestrator.tenure import tenure
from orchestrator.worker import CohortWorker, Superseded, pulse_or_error
from tests.chaos.questions import QUESTIONS
from tests.chaos.smithy import ROOT, Forge, Process, wait_until

SETTINGS = {"device": "cpu", "checkpoint_s": 0.01}


def sweep_of(folder: Path, *overrides: str) -> Sweep:
    path = folder / "declared.yaml"
    path.write_text(QUESTIONS["declared"])
    return load_sweep(path, overrides=overrides)


def given_out(folder: Path, sweep: Sweep, **more) -> CohortQueue:
    cohorts = [cohort_of(sweep.runs, width=4)]
    store = Store.create(folder / "store")
    return CohortQueue(store=store, sweep=sweep.name, cohorts=cohorts, settings=SETTINGS, **more)


def begun(queue: CohortQueue) -> CohortWorker:
    cohort = queue.take()
    assert cohort is not None
    queue.begin(cohort)
    worker = CohortWorker(store=str(queue.store.path), sweep=queue.sweep, cohort=cohort)
    worker.open()
    return worker


def test_a_worker_that_was_given_up_commits_and_saves_nothing_more(tmp_path: Path) -> None:
    queue = given_out(tmp_path, sweep_of(tmp_path))
    zombie = begun(queue)
    assert zombie.engine is not None
    zombie.ended = zombie.engine.advance()  # runs are done, and it is stopped before it commits them
    assert zombie.ended
    queue.lost(zombie.cohort, "silent for too long")
    heir = begun(queue)
    with pytest.raises(Superseded):
        zombie._commit()
    zombie.close()
    pulse = pulse_or_error(zombie)
    assert (pulse.superseded, pulse.over, pulse.error, pulse.halt) == (True, True, "", "")
    assert Store(queue.store.path).statuses() == {}
    assert Store(queue.store.path).files("checkpoints", ".npz") == []
    queue.hear(pulse)
    assert list(queue.out) == [heir.cohort], "the heir was disturbed"


def test_the_licence_is_looked_at_with_the_lock_held(tmp_path: Path) -> None:
    """Else it could be taken back between the look and the commit."""
    queue = given_out(tmp_path, sweep_of(tmp_path))
    worker = begun(queue)
    worker.ended = worker.engine.advance()
    seen: list[bool] = []
    licence = worker._licence

    def looked():
        try:
            with locks.held(queue.store.path / ".lock", patience_s=0.0):
                seen.append(False)
        except StoreError:
            seen.append(True)
        return licence()

    worker._licence = looked
    worker._commit()
    assert seen == [True]


def test_a_zombie_of_an_earlier_command_has_no_licence_once_another_is_alone(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    zombie = begun(given_out(tmp_path, sweep))
    outcome = run_sweep(sweep, store_path=tmp_path / "store", launcher="inline", width=4, device="cpu")
    assert outcome.trained == len(sweep.runs)
    assert pulse_or_error(zombie).superseded
    assert list((tmp_path / "store" / "sweeps" / sweep.name / "cohorts").iterdir()) == []


def test_a_command_whose_sweep_was_taken_over_ends_and_says_so(tmp_path: Path) -> None:
    queue = given_out(tmp_path, sweep_of(tmp_path))
    cohort = queue.take()
    queue.hear(Pulse(cohort=cohort, over=True, superseded=True))
    assert queue.is_over or queue.halted
    assert "another command has taken the sweep over" in queue.halted


def slow_and_heir(store: Store, sweep: Sweep, *, now: list[float]) -> tuple[Claims, Claims]:
    """One command that has claimed all runs, and one that may take them over when it is 61 s later."""
    more: dict[str, Any] = {"sweep": sweep.name, "lease_s": 60.0, "clock": lambda: now[0]}
    slow, heir = Claims(store, owner="slow", **more), Claims(store, owner="heir", **more)
    (store.sweep_dir(sweep.name) / "claims").mkdir(parents=True)
    slow.take(lambda held, living: [run.run_id for run in sweep.runs])
    return slow, heir


def test_runs_that_were_taken_away_are_not_begun(tmp_path: Path) -> None:
    """Stopped between its claim and the licence, while others took it for dead."""
    sweep, store, now = sweep_of(tmp_path), Store.create(tmp_path / "store"), [0.0]
    ids = [run.run_id for run in sweep.runs]
    slow, heir = slow_and_heir(store, sweep, now=now)
    queue = given_out(tmp_path, sweep, token=slow.token, is_granted=slow.holds)
    heir.take(lambda held, living: [])
    now[0] = 61.0
    assert heir.take(lambda held, living: [run for run in ids if run not in held]) == ids
    assert queue.take() is None
    assert list((store.sweep_dir(sweep.name)).glob("cohorts/*")) == []


def test_who_takes_runs_over_takes_the_licences_back(tmp_path: Path) -> None:
    sweep, store, now = sweep_of(tmp_path), Store.create(tmp_path / "store"), [0.0]
    ids = [run.run_id for run in sweep.runs]
    slow, heir = slow_and_heir(store, sweep, now=now)
    zombie = begun(given_out(tmp_path, sweep, token=slow.token, is_granted=slow.holds))
    heir.take(lambda held, living: [])
    now[0] = 61.0
    heir.take(lambda held, living: [run for run in ids if run not in held])
    assert pulse_or_error(zombie).superseded
    slow.beat()
    assert not (store.sweep_dir(sweep.name) / "claims" / "slow.json").exists(), "it does not know that it is dead"
    assert not slow.holds(ids[:1])


def test_claims_of_killed_commands_do_not_outlive_the_next(tmp_path: Path) -> None:
    store, sweep = Store.create(tmp_path / "store"), sweep_of(tmp_path)
    (store.sweep_dir(sweep.name) / "claims").mkdir(parents=True)
    Claims(store, sweep=sweep.name, owner="killed").take(lambda held, living: [sweep.runs[0].run_id])
    with tenure(store, sweep=sweep.name, is_shared=True):
        assert list((store.sweep_dir(sweep.name) / "claims").iterdir()) == []


HOLDS = """
import sys, time
from analysis.store import Store
from orchestrator.tenure import tenure
with tenure(Store(sys.argv[1]), sweep="declared", is_shared=sys.argv[2] == "shared"):
    print("in", flush=True)
    time.sleep(600)
"""


def held_by_another(store: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS, str(store), how]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    return process


def test_of_two_commands_that_do_not_share_the_second_says_who_has_it(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    with held_by_another(store.path, "alone") as other:
        try:
            with pytest.raises(BadRequest, match=rf"declared: is being run by process {other.pid} on .* --share"):
                run_sweep(sweep_of(tmp_path), store_path=store.path, launcher="inline", device="cpu")
            assert store.sweeps() == [], "what was refused has left a record"
        finally:
            other.kill()
    with tenure(store, sweep="declared", is_shared=False):
        pass  # a killed command holds nothing


def test_commands_that_share_let_each_other_in_and_nobody_else(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    with held_by_another(store.path, "shared") as other:
        try:
            with tenure(store, sweep="declared", is_shared=True):
                pass
            with (
                pytest.raises(BadRequest, match="is being run by commands that share it"),
                tenure(store, sweep="declared", is_shared=False),
            ):
                pass
        finally:
            other.kill()


def test_a_stopped_command_whose_runs_were_taken_over_commits_none_of_them(tmp_path: Path) -> None:
    """With real processes: SIGSTOP for longer than the lease, SIGCONT while the other trains."""
    sweep, store = tmp_path / "declared.yaml", tmp_path / "store"
    sweep.write_text(QUESTIONS["declared"].replace("replicates: 6", "replicates: 12"))
    argv = ["run", str(sweep), "--store", str(store), "--launcher", "inline", "--share", "--width", "4"]
    argv += ["--device", "cpu", "--checkpoint-every", "0.1", "--no-report", "--quiet"]
    folder = store / "sweeps" / "declared"
    with Forge(tmp_path) as forge:
        slow = forge.begin(argv, store=store, lease_s=0.6)
        wait_until(lambda: slow.trained > 20 and list(folder.glob("cohorts/*.json")), what="the first to train")
        attempts = stopped_in_training(slow, store)
        before = committed(store)
        heir = forge.begin(argv, store=store, lease_s=0.6)
        wait_until(
            lambda: not any((folder / "cohorts" / f"{name}.json").exists() for name in attempts),
            what="the other to take its runs over",
        )
        slow.send(signal.SIGCONT)
        assert (slow.wait(), heir.wait()) == (0, 0)
    late = {run: cohort for run, cohort in committed(store).items() if run not in before}
    assert {cohort for cohort in late.values() if cohort in attempts} == set()
    assert len(late) + len(before) == 36


def stopped_in_training(process: Process, store: Path) -> set[str]:
    """Stop a command where it has begun a cohort and does not hold the store's lock; the attempts that it is at."""
    while True:
        process.send(signal.SIGSTOP)
        wait_until(lambda: process.is_stopped, what="it to stop")
        attempts = {path.stem for path in (store / "sweeps" / "declared" / "cohorts").glob("[0-9a-f]*.json")}
        with contextlib.suppress(StoreError), locks.held(store / ".lock", patience_s=0.0):
            if attempts:
                return attempts
        process.send(signal.SIGCONT)
        time.sleep(0.02)


def committed(store: Path) -> dict[str, str]:
    rows = Store(store).runs_table(columns=["run_id", "cohort"]).to_pylist()
    return {row["run_id"]: row["cohort"] for row in rows}


HOLDS_THE_LOCK = """
import sys, time
from analysis.store import Store
with Store(sys.argv[1]).locked():
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_stopped_holder_of_the_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.create(tmp_path / "store")
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(store.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "in\n"
            os.kill(other.pid, signal.SIGSTOP)
            words = rf"locked for 0 s by process {other.pid} on .*; if it hangs, end it"
            with pytest.raises(StoreError, match=words), store.locked():
                pass
        finally:
            other.kill()
