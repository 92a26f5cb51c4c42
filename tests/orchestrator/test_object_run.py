"""A whole sweep in a bucket: the tables of one in a folder, whatever the gateway does and whenever it is killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweeps import small
from tables import as_bytes, values

from analysis.places.bucket import Bucket
from analysis.store import Store
from analysis.upkeep import check
from orchestrator.claims import Claims
from orchestrator.cli import cli
from orchestrator.errors import BadRequest
from orchestrator.run import run_sweep
from orchestrator.sweep import Sweep
from orchestrator.tenure import tenure

sys.path.append(str(Path(__file__).parents[1] / "analysis"))
from buckets import Gate, bucket_server, environment, through_gate

FEW = ("base.budget.steps=30", "replicates=1")


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with bucket_server() as port:
        yield port


@pytest.fixture
def gate(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with through_gate(server, monkeypatch) as gate:
        yield gate


@pytest.fixture
def address(gate: Gate, request: pytest.FixtureRequest) -> str:
    return f"s3://bucket/{request.node.name}"


def train(sweep: Sweep, store: str | Path) -> None:
    outcome = run_sweep(sweep, store_path=store, launcher="inline", width=2, checkpoint_s=0.1)
    assert not outcome.interrupted


def assert_same(address: str, folder: Path) -> None:
    for here, there in zip(values(folder), values(address), strict=True):
        assert as_bytes(here) == as_bytes(there)
    assert check(Store(address)) == []
    assert Store(address).checkpoints.furthest() == {}


def test_every_verb_works_in_a_bucket_and_says_what_it_says_of_a_folder(address: str, tmp_path: Path) -> None:
    sweep = small(tmp_path, *FEW)
    train(sweep, address)
    train(sweep, tmp_path / "store")
    assert_same(address, tmp_path / "store")

    def said(*words: str) -> str:
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, done.output
        return done.output

    for verb in (["status", "--json"], ["events"], ["compact"]):
        here, there = (said(verb[0], place, *verb[1:]) for place in (str(tmp_path / "store"), address))
        assert here.replace(str(tmp_path / "store"), "STORE") == there.replace(address, "STORE")
    assert f"Report: {address}/sweeps/small/report/index.html" in said("report", address)
    assert (Store(address).sweep_dir("small") / "report" / "summary.md").exists()
    run = sorted(Store(address).statuses())[0]
    assert "has the stored bits" in said("rerun", address, run)
    assert f"store        {address}" in said("doctor", address)
    assert "0 new, 2 already stored" in said("plan", str(tmp_path / "small.yaml"), *FEW, "--store", address)


def test_the_live_page_shows_a_bucket_as_it_shows_a_folder(address: str, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    from served import counts, got, served_here, settled

    sweep = small(tmp_path, *FEW)
    train(sweep, address)
    train(sweep, tmp_path / "store")
    run, shown = sweep.runs[0].run_id, list[tuple[object, ...]]()
    for place in (address, str(tmp_path / "store")):
        with served_here(place) as url:
            settled(url)
            page = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:]+", "TIME", got(url, "/sweep/small")[2]).replace(place, "STORE")
            shown.append((counts(url), page, got(url, f"/run/{run}/curve.json")[2]))
    assert shown[0][0] == shown[1][0]
    assert shown[0][2] == shown[1][2]
    assert shown[0][1] == shown[1][1]


def test_a_gateway_away_in_mid_sweep_costs_waiting_and_no_run(address: str, tmp_path: Path, gate: Gate) -> None:
    sweep = small(tmp_path, "base.budget.steps=150", "replicates=1")
    train(sweep, tmp_path / "store")
    is_away, put = threading.Event(), Bucket.put

    def shutting(self: Bucket, key: str, data: bytes) -> None:
        if key.startswith("checkpoints/") and not is_away.is_set():
            is_away.set()
            gate.shut()
            threading.Timer(2.0, gate.reopen).start()
        put(self, key, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "put", shutting)
        train(sweep, address)
    assert is_away.is_set()
    assert_same(address, tmp_path / "store")


@pytest.mark.slow  # and in tests/lab/test_lab_ceph.py, between any two requests
def test_a_sweep_killed_again_and_again_ends_with_the_undisturbed_tables(
    address: str, tmp_path: Path, server: int
) -> None:
    sweep = small(tmp_path, "base.budget.steps=60", "replicates=1")
    train(sweep, tmp_path / "store")
    (tmp_path / "killed.yaml").write_text(sweep.record()["yaml"])
    words = [sys.executable, str(Path(__file__).with_name("dying.py")), str(tmp_path / "killed.yaml"), address]
    sets = {**os.environ, **environment(server), "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, "every", "4"], env=sets, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    assert_same(address, tmp_path / "store")


def test_a_second_command_on_a_sweep_is_refused_until_the_first_is_gone(address: str, tmp_path: Path) -> None:
    sweep, store = small(tmp_path, *FEW), Store.create(address)
    with tenure(store, sweep=sweep.name, is_shared=False), pytest.raises(BadRequest, match="is being run by process"):
        train(sweep, address)
    train(sweep, address)


def test_a_command_that_would_be_alone_is_refused_while_others_share(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.claims.LEASE_S", 3.0)
    sweep, store = small(tmp_path, *FEW), Store.create(address)
    with Claims(store, sweep=sweep.name, owner="another", lease_s=3.0) as other:
        runs = [run.run_id for run in sweep.runs]
        other.take(lambda held, living: runs)
        with pytest.raises(BadRequest, match=r"commands that share it, one of them another.* --share"):
            train(sweep, address)
        with store.locked():
            assert other.holds(runs)
    Claims(store, sweep=sweep.name, owner="killed").take(lambda held, living: runs)
    train(sweep, address)
    assert Store(address).statuses().keys() == set(runs)


def test_a_search_in_a_bucket_asks_for_a_database(address: str, tmp_path: Path) -> None:
    sweep = tmp_path / "search.yaml"
    sweep.write_text(SEARCH)
    done = CliRunner().invoke(cli, ["run", str(sweep), "--store", address, "--launcher", "inline", "--quiet"])
    assert done.exit_code == 2
    assert "a bucket cannot hold a study's journal; give search.storage a database's address" in done.output


SEARCH = """
question: Which config has its event most surely?
base:
  task: {name: declared, chance: "0.5", median_steps: "20"}
  model: {name: declared}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 60, batch: 2}
search:
  {name: random, space: {optim.lr: {log_range: [1.0e-5, 0.1]}}, objective: {p_eureka: {by_step: 50}}, configs: 2}
replicates: 1
"""
