"""Several commands on one sweep: together they end with the tables of one, also when one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps import small
from tables import as_bytes, values
from test_crash import SWEEP, safe_steps

from analysis.store import Store
from analysis.upkeep import check
from orchestrator.errors import BadRequest
from orchestrator.outlook import Outlook
from orchestrator.run import RunOutcome, run_sweep
from orchestrator.sharing import chosen
from orchestrator.stopping import stops_early
from orchestrator.sweep import load_sweep

PATIENCE_S = 200.0
SHORT = "name: shared\n" + SWEEP.replace("steps: 3000", "steps: 800").replace(
    "after_event_steps: 2500", "after_event_steps: 600"
)
PROGRAM = """
import sys, orchestrator.claims, orchestrator.sharing
orchestrator.sharing.run_shared.__kwdefaults__["lease_s"] = 3.0
from orchestrator.cli import main
sys.argv[0] = "eureka"
main()
"""


def start(sweep: Path, store: Path) -> subprocess.Popen[bytes]:
    """A command that shares, with a lease short enough for a test."""
    options = ["--store", str(store), "--launcher", "inline", "--share", "--width", "2"]
    options += ["--checkpoint-every", "0.3", "--no-report", "--quiet"]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen([sys.executable, "-c", PROGRAM, "run", str(sweep), *options], cwd=root)


def wait_until(is_so: Callable[[], bool], *, alive: subprocess.Popen[bytes] | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert alive is None or alive.poll() is None, "the command ended"
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def disturbed_by_a_kill(folder: Path, *, commands: int) -> None:
    """Start so many, kill the first in mid-sweep, and hold the store against an undisturbed one."""
    sweep = folder / "shared.yaml"
    sweep.write_text(SHORT)
    calm, rough = folder / "calm", folder / "rough"
    run_sweep(load_sweep(sweep), store_path=calm, launcher="inline", width=2)

    first, *others = [start(sweep, rough) for _ in range(commands)]
    claims = rough / "sweeps" / "shared" / "claims"
    wait_until(lambda: any("[]" not in path.read_text() for path in claims.glob(f"*-{first.pid}-*.json")), alive=first)
    first.kill()
    first.wait()
    assert [command.wait(timeout=PATIENCE_S) for command in others] == [0] * len(others)

    assert check(Store(rough)) == []
    for disturbed, undisturbed in zip(values(rough), values(calm), strict=True):
        assert as_bytes(disturbed) == as_bytes(undisturbed)
    assert list((rough / "checkpoints").iterdir()) == []
    assert list(claims.iterdir()) == [], "the dead command's claim was not taken over"


def test_a_killed_commands_runs_are_taken_over_and_the_tables_are_those_of_one(tmp_path: Path) -> None:
    disturbed_by_a_kill(tmp_path, commands=2)


@pytest.mark.slow
def test_four_commands_one_of_them_killed_end_with_the_tables_of_one(tmp_path: Path) -> None:
    disturbed_by_a_kill(tmp_path, commands=4)


def test_a_signalled_command_saves_and_leaves_the_rest_to_the_others(tmp_path: Path) -> None:
    sweep, store = tmp_path / "shared.yaml", tmp_path / "store"
    sweep.write_text(SHORT)

    def train() -> RunOutcome:
        loaded = load_sweep(sweep)
        return run_sweep(loaded, store_path=store, launcher="inline", width=2, is_shared=True, checkpoint_s=0.3)

    def signal_when_under_way() -> None:
        wait_until(lambda: (store / "eureka.json").exists() and safe_steps(store) > 100)
        os.kill(os.getpid(), signal.SIGUSR1)

    with stops_early() as stop:
        threading.Thread(target=signal_when_under_way).start()
        assert train().interrupted
    done = Store(store).statuses()
    assert stop.why.endswith("SIGUSR1")
    assert len(done) < 12, "it did not leave"
    assert Store(store).checkpoints.furthest().keys() - done.keys(), "it did not save"
    assert list((store / "sweeps" / "shared" / "claims").iterdir()) == []
    outcome = train()
    assert (outcome.trained, outcome.already, outcome.interrupted) == (12 - len(done), len(done), False)
    assert check(Store(store)) == []


def test_a_lone_command_that_shares_is_like_one_that_does_not(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    alone = run_sweep(sweep, store_path=tmp_path / "alone", launcher="inline", width=4)
    shared = run_sweep(sweep, store_path=tmp_path / "shared", launcher="inline", width=4, is_shared=True)
    assert (shared.trained, shared.failed, shared.interrupted) == (alone.trained, 0, False)
    for one, other in zip(values(tmp_path / "shared"), values(tmp_path / "alone"), strict=True):
        assert as_bytes(one) == as_bytes(other)


def test_a_command_takes_its_share_of_one_shape(tmp_path: Path) -> None:
    runs = small(tmp_path, "axes={model.width: [8, 16]}", "replicates=8").runs
    shape = runs[0].shape_key
    taken = chosen(runs, outlook=Outlook(width=32), commands=4)
    assert [run.shape_key for run in taken] == [shape, shape]  # 8 of the shape, 4 commands
    assert len(chosen(runs, outlook=Outlook(width=2), commands=1)) == 2
    assert len(chosen(runs, outlook=Outlook(width=2), commands=1, shape=shape, most=3)) == 3
    assert chosen([], outlook=Outlook(), commands=1) == ()
    assert chosen(runs, outlook=Outlook(), commands=1, shape="another") == ()


def test_sharing_is_refused_where_it_makes_no_sense(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    with pytest.raises(BadRequest, match="--share: got --launcher ray"):
        run_sweep(sweep, store_path=tmp_path / "s", launcher="ray", is_shared=True, device="cpu")
    with pytest.raises(BadRequest, match="--retry-failed: got it beside --share"):
        run_sweep(sweep, store_path=tmp_path / "s", launcher="inline", is_shared=True, retry_failed=True)
    assert os.listdir(tmp_path) == ["small.yaml"]
