"""A machine that is about to be taken away, as each provider's metadata server says it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from metadata import Metadata, metadata_server

from analysis.store import Store
from orchestrator.errors import BadRequest
from orchestrator.notices import PROVIDERS, Notices, watched
from orchestrator.stopping import stops_early

SWEEP = """
name: spot
question: Does a notice cost anything?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 100000, batch: 8}
replicates: 2
log: {measures_every_steps: 1000}
"""


@pytest.fixture
def server() -> Iterator[Metadata]:
    with metadata_server() as running:
        yield running


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_quiet_machine_has_no_notice(server: Metadata, provider: str) -> None:
    assert Notices(provider, address=server.address).look() == ""
    assert len(server.asked) >= 1


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        ("aws", "terminate at 2017-09-18T08:22:00Z"),
        ("gcp", "preempted"),
        ("azure", "preempted at Mon, 19 Sep 2016 18:29:47 GMT"),
    ],
)
def test_a_notice_is_told_in_the_providers_words(server: Metadata, provider: str, says: str) -> None:
    server.preempt()
    assert Notices(provider, address=server.address).look() == says


def test_amazons_token_is_asked_once_and_again_when_it_has_run_out(server: Metadata) -> None:
    notices = Notices("aws", address=server.address)
    assert notices.look() == notices.look() == ""
    assert server.asked.count("/latest/api/token") == 1
    server.tokens[0] = "another"
    server.preempt()
    assert notices.look().startswith("terminate")
    assert server.asked.count("/latest/api/token") == 2


def test_azures_event_of_another_machine_or_one_that_is_over_is_no_notice(server: Metadata) -> None:
    notices = Notices("azure", address=server.address)
    server.preempt(resources=("worker-4",))
    server.preempt(status="Completed")
    server.events.append({**server.events[0], "EventType": "Reboot", "Resources": ["worker-3"]})
    assert notices.look() == ""
    server.preempt(resources=("worker-4", "worker-3"))
    assert notices.look().startswith("preempted")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("garbage", ["<html>captive portal</html>", "[]", '{"Events": 3}'])
def test_a_server_that_is_none_of_theirs_is_no_notice(server: Metadata, provider: str, garbage: str) -> None:
    server.garbage = garbage
    assert Notices(provider, address=server.address).look() == ""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_server_at_all_is_no_notice(provider: str) -> None:
    with metadata_server() as server:
        address = server.address
    assert Notices(provider, address=address).look() == ""


def test_a_proxy_is_not_asked(server: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.preempt()
    assert Notices("gcp", address=server.address).look() == "preempted"


def test_a_watcher_tells_once_and_stops_asking(server: Metadata) -> None:
    told, heard = list[str](), threading.Event()
    with Notices(
        "gcp", address=server.address, every_s=0.01, on_notice=lambda said: (told.append(said), heard.set())
    ) as notices:
        while len(server.asked) < 3:
            time.sleep(0.005)
        assert not told
        server.preempt()
        assert heard.wait(timeout=30)
    assert told == ["preempted"]
    assert notices.said == "preempted"


def test_an_unknown_provider_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadRequest, match=r"^EUREKA_NOTICES: got 'ibm'; expected one of aws, gcp, azure$"):
        watched("ibm@http://127.0.0.1:1")


def test_a_notice_is_a_first_ctrl_c(server: Metadata) -> None:
    server.preempt()
    with stops_early(notices=f"gcp@{server.address}") as stop, pytest.raises(KeyboardInterrupt):
        time.sleep(30)
    assert stop.why == "this machine is taken away (preempted)"


def test_a_sweep_on_a_machine_that_goes_saves_and_says_why(server: Metadata, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    store = tmp_path / "store"
    command = [sys.executable, "-m", "orchestrator.cli", "run", str(tmp_path / "sweep.yaml"), "--store", str(store)]
    command += ["--launcher", "inline", "--checkpoint-every", "3600", "--width", "2", "--device", "cpu", "--quiet"]
    sets = {**os.environ, "EUREKA_NOTICES": f"aws@{server.address}"}
    sweep = subprocess.Popen(command, env=sets, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list((store / "sweeps").glob("*/cohorts/*.json")):
        assert sweep.poll() is None, "the sweep ended"
        assert time.monotonic() < until, "the sweep did not begin"
        time.sleep(0.02)
    server.preempt()
    _, said = sweep.communicate(timeout=120)
    assert sweep.returncode == 130
    assert "this machine is taken away (terminate at 2017-09-18T08:22:00Z)" in said
    assert len(Store(store).checkpoints.furthest()) == 2, "what was trained is lost"
