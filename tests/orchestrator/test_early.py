"""Ray comes up beside the planning, and goes when the sweep is over; what goes wrong there is the launcher's to say."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator import tune
from orchestrator.early import EarlyRay
from orchestrator.errors import OrchestratorError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the launcher."""
    found: list[str] = []
    monkeypatch.setattr(tune, "connect", lambda workers: found.append(f"connect {workers}") or True)
    monkeypatch.setattr(tune, "disconnect", lambda: found.append("disconnect"))
    return found


def test_it_is_up_when_waited_for_and_gone_afterwards(calls: list[str]):
    with EarlyRay(3, is_wanted=True) as early:
        early.wait()
        assert calls == ["connect 3"]
    assert calls == ["connect 3", "disconnect"]


def test_it_goes_too_where_planning_fails(calls: list[str]):
    with pytest.raises(ValueError, match="no plan"), EarlyRay(3, is_wanted=True):
        raise ValueError("no plan")
    assert calls == ["connect 3", "disconnect"]


def test_nothing_begins_where_nothing_is_to_be_trained(calls: list[str]):
    with EarlyRay(3, is_wanted=False) as early:
        early.wait()
    assert calls == []


def test_a_cluster_that_was_there_before_is_left_alone(calls: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune, "connect", lambda workers: False)
    with EarlyRay(3, is_wanted=True):
        pass
    assert calls == []


def test_a_ray_that_cannot_start_holds_nobody_up(calls: list[str], monkeypatch: pytest.MonkeyPatch):
    def fails(workers: int) -> bool:
        raise OrchestratorError("ray: could not start")

    monkeypatch.setattr(tune, "connect", fails)
    with EarlyRay(3, is_wanted=True) as early:
        early.wait()
    assert calls == []


def test_a_ray_that_somebody_else_runs_here_is_not_joined(tmp_path: Path):
    """`ray start` leaves the address of its head in a file, which Ray joins unless told otherwise."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: sockets lie below it
        told = Path(folder, "ray", "ray_current_cluster")
        told.parent.mkdir()
        told.write_text("127.0.0.1:1")
        begin = "from orchestrator import tune; tune.connect(1); print('up'); tune.disconnect()"
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        done = subprocess.run(
            [sys.executable, "-c", begin],
            cwd=tmp_path,
            env=environment | {"RAY_TMPDIR": folder, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout == "up\n", done.stderr
