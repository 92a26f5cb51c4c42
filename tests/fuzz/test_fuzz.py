from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import BadRequest
from tests.fuzz import target as fuzzing
from tests.fuzz.archive import Planted
from tests.fuzz.target import CORPUS, Defect, Target, kept, tried
from tests.fuzz.targets import GROUPS, named

ROOT = Path(__file__).parents[2]
SLOW = {"sweep": 25, "cluster": 30, "probe": 30, "override": 80}
SLOW |= {"ledger": 12, "curves": 12, "digests": 6, "readings": 40}
QUICK = 250


@pytest.fixture(scope="module", params=GROUPS)
def target(request, tmp_path_factory) -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("a fuzzed place")
        patch.setenv("HOME", str(folder))
        patch.setenv("EUREKA_CACHE", str(folder / "cache"))
        patch.delenv("EUREKA_DATA", raising=False)
        patch.setattr("orchestrator.grid.MOST_RUNS", 300)  # as the target sets it
        (folder / "empty").mkdir()
        patch.chdir(folder / "empty")
        yield named(request.param, folder / "work")


@pytest.mark.filterwarnings("ignore")
def test_what_once_went_wrong_is_taken_or_refused(target: Target):
    for path in kept(target.name):
        found = tried(target, path.read_bytes())
        assert isinstance(found, bool), f"{path}: {found.text}"


@pytest.mark.filterwarnings("ignore")
def test_new_inputs_are_taken_or_refused(target: Target):
    pool = target.pool()
    for number in range(SLOW.get(target.name, QUICK)):
        data = target.made(number, seed=2026, pool=pool)
        found = tried(target, data)
        assert isinstance(found, bool), f"--seed 2026 --only {number}: {found.text}\n{data[:2000]!r}"
    assert not Planted.happened


@pytest.mark.filterwarnings("ignore")
def test_right_inputs_are_taken(target: Target):
    """Else a target would refuse everything, and find nothing."""
    assert all(tried(target, seed) is True for seed in target.seeds[:3])


def failing(error: BaseException) -> Target:
    def run(data: bytes) -> None:
        raise error

    return Target(name="x", seeds=[b""], vary=lambda rng, data, others: data, run=run)


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (KeyError("a"), "KeyError at"),
        (AssertionError(), "AssertionError at"),
        (SystemExit(3), "SystemExit at"),
        (fuzzing.AnalysisError(), "AnalysisError of several lines"),
    ],
)
def test_anything_but_an_error_of_ours_is_a_defect(error: BaseException, place: str):
    found = tried(failing(error), b"")
    assert isinstance(found, Defect)
    assert found.place.startswith(place)


def test_refusal_is_no_defect():
    assert tried(failing(BadRequest("no")), b"") is False


def test_an_input_that_never_ends_is_a_defect(monkeypatch):
    def run(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzzing, "MOST_S", 0.05)
    found = tried(Target(name="x", seeds=[b""], vary=lambda rng, data, others: data, run=run), b"")
    assert isinstance(found, Defect)
    assert found.place.startswith("Hung at")


def test_input_is_a_function_of_seed_and_number(target: Target):
    pool = target.pool()
    made = [target.made(n, seed=1, pool=pool) for n in range(20)]
    assert made == [target.made(n, seed=1, pool=pool) for n in range(20)]
    assert len({*made, *(target.made(n, seed=2, pool=pool) for n in range(20))}) > 25


def test_corpus_is_small_and_belongs_to_targets():
    assert {path.name for path in CORPUS.iterdir()} <= set(GROUPS)
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < 400_000


def test_command_counts_what_it_let_in(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "marker", "--inputs", "50", "--out", str(tmp_path / "found")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"marker +50 inputs", done.stdout)
    assert "50 inputs, 0 defects" in done.stdout
    assert not (tmp_path / "found").exists()
