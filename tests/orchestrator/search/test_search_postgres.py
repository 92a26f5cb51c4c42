"""A study on PostgreSQL, which is killed and started again under the search: nothing is lost, nothing doubled."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import Server, programs, served
from searches import TEXT, small_search
from test_search_crash import each_once

from analysis.store import Store
from orchestrator.errors import OrchestratorError
from orchestrator.run import run_sweep
from orchestrator.search import asker

pytest.importorskip("psycopg")
BIN = programs()
pytestmark = [
    pytest.mark.skipif(BIN is None, reason="PostgreSQL is not installed: no initdb and postgres"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    assert BIN is not None
    folder = Path(tempfile.mkdtemp(prefix="eureka-postgres-", dir="/tmp"))  # the socket's path must be short
    try:
        with served(folder, BIN) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_search_survives_the_death_of_its_database(server: Server, tmp_path: Path) -> None:
    text = TEXT.replace("configs: 6", "configs: 30").replace("name: random", "name: tpe")
    sweep = small_search(tmp_path, f"search.storage={server.url}", text=text)
    store = tmp_path / "store"

    def disturb() -> None:
        for _ in range(2):
            wait_for_trials(store, more_than=count(store))
            server.kill()
            time.sleep(0.5)
            server.start()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    outcome = run_sweep(sweep, store_path=store, launcher="inline")
    disturbing.join()
    assert not outcome.interrupted
    each_once(Store(store), configs=30, url=server.url)
    assert not (store / "sweeps" / "small" / "study.journal").exists()
    assert "secret" not in (store / "sweeps" / "small" / "sweep.json").read_text()


def test_a_database_that_stays_away_ends_the_search_in_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker, "PATIENCE_S", 2.0)
    text = TEXT.replace("configs: 6", "configs: 400")
    sweep = small_search(tmp_path, f"search.storage={server.url}", "name=lost", text=text)
    store = tmp_path / "store"

    def disturb() -> None:
        wait_for_trials(store, more_than=0, sweep="lost")
        server.kill()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    with pytest.raises(OrchestratorError, match=r"database does not answer|cannot be reached") as caught:
        run_sweep(sweep, store_path=store, launcher="inline")
    disturbing.join()
    server.start()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "the same command goes on" in str(caught.value)


def count(store: Path, *, sweep: str = "small") -> int:
    if not (store / "eureka.json").exists():
        return 0
    table = Store(store).trials(sweep)
    return 0 if table is None else len(table)


def wait_for_trials(store: Path, *, more_than: int, sweep: str = "small") -> None:
    until = time.monotonic() + 120.0
    while count(store, sweep=sweep) <= more_than:
        assert time.monotonic() < until, "the search does not get on"
        time.sleep(0.05)
