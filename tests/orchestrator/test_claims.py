"""Claims: living owners are respected, dead ones are not, and no two machines' clocks are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.store import Store
from orchestrator.claims import Claims, owner_name

RUNS = [f"run{n}" for n in range(6)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def claims(path: Path, owner: str, clock: Clock, lease_s: float = 60.0) -> Claims:
    made = Claims(Store.create(path), sweep="a", owner=owner, lease_s=lease_s, clock=clock)
    (Store(path).sweep_dir("a") / "claims").mkdir(parents=True, exist_ok=True)
    return made


def first(n: int, held: set[str]) -> list[str]:
    return [run for run in RUNS if run not in held][:n]


def test_two_owners_never_hold_the_same_run(tmp_path: Path) -> None:
    clock = Clock()
    one, two = claims(tmp_path / "s", "one", clock), claims(tmp_path / "s", "two", clock)
    assert one.take(lambda held, living: first(2, held)) == RUNS[:2]
    assert two.take(lambda held, living: first(2, held)) == RUNS[2:4]
    assert one.take(lambda held, living: first(9, held | set(RUNS[:2]))) == RUNS[4:]


def test_a_silent_owner_loses_its_runs_after_the_lease(tmp_path: Path) -> None:
    clock = Clock()
    dead, heir = claims(tmp_path / "s", "dead", clock), claims(tmp_path / "s", "heir", clock)
    dead.take(lambda held, living: first(2, held))
    assert heir.take(lambda held, living: sorted(held & set(RUNS[:2]))[2:]) == []
    clock.now = 59.0
    assert heir.take(lambda held, living: first(1, held)) == RUNS[2:3]
    clock.now = 61.0
    assert heir.take(lambda held, living: first(1, held | {RUNS[2]})) == RUNS[:1]


def test_an_owner_that_beats_keeps_its_runs_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    alive, other = claims(tmp_path / "s", "alive", clock), claims(tmp_path / "s", "other", clock)
    alive.take(lambda held, living: first(2, held))
    for clock.now in range(0, 600, 50):
        alive.beat()
        assert other.take(lambda held, living: [] if set(RUNS[:2]) <= held else ["stolen"]) == []


def test_the_same_owner_begins_again_without_waiting(tmp_path: Path) -> None:
    clock = Clock()
    claims(tmp_path / "s", "slurm-7-1", clock).take(lambda held, living: RUNS)
    again = claims(tmp_path / "s", "slurm-7-1", clock)
    assert again.take(lambda held, living: first(6, held)) == RUNS


def test_an_owner_that_was_taken_for_dead_does_not_come_back_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    slow, heir = claims(tmp_path / "s", "slow", clock), claims(tmp_path / "s", "heir", clock)
    slow.take(lambda held, living: RUNS[:2])
    assert slow.holds(RUNS[:2])
    heir.take(lambda held, living: [])
    clock.now = 61.0
    assert heir.take(lambda held, living: first(2, held)) == RUNS[:2]
    slow.beat()
    assert not slow.holds(RUNS[:1])
    assert slow.take(lambda held, living: first(6, held)) == RUNS[2:], "it holds what it was bereft of"


def test_a_task_that_was_queued_again_takes_its_old_licences_back(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    before = Claims(store, sweep="a", owner="slurm-7-1")
    (store.sweep_dir("a") / "claims").mkdir(parents=True)
    before.take(lambda held, living: RUNS)
    store.save_cohort("a", f"3f1a.{before.token}.1", {})
    store.save_cohort("a", "3f1a.ffffff.1", {})
    with Claims(store, sweep="a", owner="slurm-7-1"):
        left = [path.stem for path in (store.sweep_dir("a") / "cohorts").glob("*.json")]
        assert left == ["3f1a.ffffff.1"]


def test_a_damaged_claim_holds_nothing(tmp_path: Path) -> None:
    one = claims(tmp_path / "s", "one", Clock())
    (tmp_path / "s" / "sweeps" / "a" / "claims" / "broken.json").write_text('{"beat": ')
    assert one.take(lambda held, living: first(6, held)) == RUNS


def test_an_owner_that_leaves_takes_its_file_along(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    with Claims(store, sweep="a", owner="one") as own:
        own.take(lambda held, living: RUNS)
        [file] = (store.sweep_dir("a") / "claims").iterdir()
        assert json.loads(file.read_text())["runs"] == RUNS
    assert list((store.sweep_dir("a") / "claims").iterdir()) == []


def test_a_task_of_an_array_keeps_its_name_when_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert owner_name() != owner_name()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert owner_name() == owner_name() == "slurm-7-3"
