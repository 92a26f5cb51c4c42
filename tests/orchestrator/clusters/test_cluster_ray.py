"""Machines that Ray starts: its traps handled on paper, and the jobs on a head with real processes."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_files import SWEEP, FakeShell, job, load_text

from orchestrator.clusters import head
from orchestrator.clusters.look import examine
from orchestrator.clusters.over_ray import OverRay
from orchestrator.errors import OrchestratorError

OWN = """
name: lab
launcher: ray
workers: {count: 4, cpus: 2, gpus: 0, slots: 8}
store: /shared/store
environment: {python: /opt/eureka/bin/python}
ray:
  provider: {type: local, head_ip: 10.0.0.1, worker_ips: [10.0.0.2, 10.0.0.3]}
  auth: {ssh_user: you}
"""
AWS = """
name: rented
launcher: ray
workers: {count: 4, gpus: 0.5}
store: /efs/store
ray:
  max_workers: 4
  provider: {type: aws, region: us-west-2}
  auth: {ssh_user: ubuntu}
  head_node_type: head
  available_node_types: {head: {resources: {CPU: 0}, node_config: {InstanceType: m5.large}}}
"""


MACHINE = {
    "versions": {"ray": "2"},
    "sees_token": True,
    "free": 2**40,
    "refused": "",
    "gpus": 0,
    "port_is_taken": False,
}


def launcher(text: str, answers: dict[str, str] | None = None) -> OverRay:
    spec, source = load_text(text)
    return OverRay(spec, source=source, shell=FakeShell(answers or {}))


def calls(of: OverRay) -> list[str]:
    assert isinstance(of.shell, FakeShell)
    return of.shell.calls


def answer(**record: Any) -> str:
    return f"Warning: something of ssh's\nEUREKA {json.dumps(record)}\nShared connection closed.\n"


def test_traps_of_own_machines_are_handled_on_both_sides() -> None:
    rendered = launcher(OWN).rendered(job())
    config = yaml.safe_load(rendered.files["ray.yaml"])
    head_start, worker_start = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert "RAY_enable_autoscaler_v2=0" in head_start
    assert "RAY_UP_enable_autoscaler_v2=0" in rendered.commands[0]
    for command in (head_start, worker_start):
        assert "RAY_AUTH_MODE=token" in command
        assert "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1" in command
        assert "/opt/eureka/bin/ray start" in command
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "--worker-cpus 2" in rendered.text()


def test_a_cloud_keeps_the_second_autoscaler_and_fractions_share_a_gpu() -> None:
    text = launcher(AWS).rendered(job()).text()
    assert "autoscaler_v2" not in text
    assert "--device cuda" in text
    assert "--worker-gpus 0.5" in text


def test_workers_that_share_a_gpu_may_have_mps_on_every_machine_and_nobody_else(tmp_path: Path) -> None:
    shared = launcher(AWS.replace("gpus: 0.5", "gpus: 0.5, mps: true"))
    config = yaml.safe_load(shared.rendered(job()).files["ray.yaml"])
    for start in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert "nvidia-cuda-mps-control -d; export RAY_AUTH_MODE" in start
        assert "export CUDA_MPS_PIPE_DIRECTORY=/tmp/eureka-mps" in start
        assert subprocess.run(["bash", "-n", "-c", start], check=False).returncode == 0
    assert "mps" not in launcher(AWS).rendered(job()).text()
    own = OWN.replace("gpus: 0", "gpus: 0.5, mps: true")
    there = launcher(own, {"health-check": "EUREKA up\n", "head stop": answer(stopped=[])})
    there.down()
    assert sum("echo quit | CUDA_MPS_PIPE_DIRECTORY=/tmp/eureka-mps" in call for call in calls(there)) == 3
    for alone in (AWS.replace("gpus: 0.5", "gpus: 1, mps: true"), OWN.replace("gpus: 0", "mps: true")):
        with pytest.raises(
            OrchestratorError, match=r"workers.mps: got '?true'?; expected false where no worker shares"
        ):
            launcher(alone)


def test_spot_machines_watch_for_their_providers_notice() -> None:
    def watched(text: str) -> str:
        return launcher(text)._variables().get("EUREKA_NOTICES", "")

    assert watched(AWS) == ""
    assert watched(AWS + "spot: {use: true}\n") == "aws"
    assert watched(OWN + "spot: {use: true}\n") == ""
    assert watched(OWN + "spot: {use: true, notices: gcp}\n") == "gcp"


def test_nothing_is_installed_on_machines_but_what_the_file_says() -> None:
    config = yaml.safe_load(launcher(AWS + "  setup_commands: [sudo mount /efs]\n").rendered().files["ray.yaml"])
    assert config["setup_commands"] == ["sudo mount /efs"]
    assert config["head_setup_commands"] == config["worker_setup_commands"] == []
    assert yaml.safe_load(launcher(AWS).rendered().files["ray.yaml"])["setup_commands"] == []


def test_what_the_file_says_below_ray_is_not_touched() -> None:
    config = yaml.safe_load(launcher(AWS).rendered().files["ray.yaml"])
    given = yaml.safe_load(AWS)["ray"]
    assert {key: config[key] for key in given} == given


def test_a_cluster_that_answers_is_left_alone() -> None:
    up = launcher(OWN, {"health-check": "EUREKA up\n"})
    assert up.up() == "lab: is up"
    assert not any("ray up" in call for call in calls(up))
    down = launcher(OWN, {"health-check": "EUREKA down\n", "bin/python - ": answer(**MACHINE)})
    down.up()
    assert any("ray up -y --no-config-cache" in call for call in calls(down))


@pytest.mark.parametrize(
    ("machine", "changes", "says"),
    [
        (
            "10.0.0.1",
            {"refused": "No space left on device"},
            "machine 10.0.0.1: store /shared/store: cannot be written",
        ),
        ("10.0.0.1", {"port_is_taken": True}, "machine 10.0.0.1: port 6379: is taken. Another Ray runs there"),
        ("10.0.0.1", {"free": 2**20}, "node 10.0.0.1: disk: got 1 MiB free"),
        ("10.0.0.3", {"sees_token": False}, "node 10.0.0.3: store /shared/store: is not the head's folder"),
        ("10.0.0.3", {"versions": {"ray": "1"}}, "node 10.0.0.3: ray: got 1; expected the head's 2. install"),
    ],
)
def test_machines_that_are_not_fit_are_told_before_ray_starts(machine: str, changes: dict[str, Any], says: str) -> None:
    answers = {
        "health-check": "EUREKA down\n",
        f"you@{machine} /opt/eureka/bin/python - ": answer(**{**MACHINE, **changes}),
        "bin/python - ": answer(**MACHINE),
    }
    unfit = launcher(OWN, answers)
    with pytest.raises(OrchestratorError) as raised:
        unfit.up()
    assert str(raised.value).startswith(f"lab: {says}")
    assert not any("ray up" in call for call in calls(unfit))


def test_no_accelerator_where_one_is_asked_for_is_told_before_ray_starts() -> None:
    answers = {"health-check": "EUREKA down\n", "bin/python - ": answer(**MACHINE)}
    with pytest.raises(OrchestratorError, match=r"^lab: workers.gpus: got 1; expected 0 on machines without"):
        launcher(OWN.replace("gpus: 0", "gpus: 1"), answers).up()
    launcher(OWN.replace("gpus: 0", "gpus: 1"), {**answers, "bin/python - ": answer(**{**MACHINE, "gpus": 1})}).up()


def test_a_machine_without_the_environment_is_told_before_ray_starts() -> None:
    with pytest.raises(OrchestratorError, match=r"^lab: machine 10.0.0.1: /opt/eureka/bin/python: does not run; make"):
        launcher(OWN, {"health-check": "EUREKA down\n"}).up()


def test_a_machine_says_what_it_has(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        first = examine(str(tmp_path / "a store"), token="t", port=port, leaves=True)
    assert first["port_is_taken"]
    assert first["sees_token"]
    assert (tmp_path / "a store" / "t").exists()
    other = examine(str(tmp_path / "another"), token="t", port=port, leaves=False)
    assert not other["port_is_taken"]
    assert not other["sees_token"]
    (tmp_path / "file").touch()
    assert examine(str(tmp_path / "file" / "store"), token="t", port=0, leaves=True)["refused"]
    assert other["versions"]["python"] == sys.version.split()[0]


def test_a_sweep_goes_to_nodes_that_are_fit_only() -> None:
    answers = {"head nodes": answer(nodes=3, problems=["node n2: store /shared/store: is not the head's"])}
    with pytest.raises(OrchestratorError, match="lab: node n2: store /shared/store: is not the head's"):
        launcher(OWN, answers).submit(job())
    fit = {"head nodes": answer(nodes=3, problems=[]), "head submit": answer(is_new=True, host="n1")}
    assert launcher(OWN, fit).submit(job()) == "eureka-small: started on n1, 3 nodes are up"


def test_an_answer_that_is_an_error_is_one_line() -> None:
    broken = launcher(OWN, {"head nodes": answer(error="ConnectionError: no Ray here")})
    with pytest.raises(OrchestratorError, match=r"^lab: on the head: ConnectionError: no Ray here$"):
        broken.submit(job())
    with pytest.raises(OrchestratorError, match=r"the head did not answer; is eureka.s environment at /opt"):
        launcher(OWN).submit(job())


def test_down_ends_ray_on_every_own_machine() -> None:
    there = launcher(OWN, {"health-check": "EUREKA up\n", "head stop": answer(stopped=["small"])})
    assert there.down() == "lab: down"
    stopped = [call for call in calls(there) if call.endswith("/opt/eureka/bin/ray stop")]
    assert [call.split("you@")[1].split()[0] for call in stopped] == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]


# -- jobs on a head ----------------------------------------------------------------------------


SWEEPS_COMMAND = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: (print("leaves"), sys.exit(130)))
print("trains", flush=True)
while True:
    time.sleep(0.05)
"""


def request(store: Path, command: str) -> dict[str, Any]:
    return {"store": str(store), "sweep": "small", "text": SWEEP, "command": command, "variables": {}, "ships": False}


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def test_a_job_under_way_is_not_started_twice_and_stops_when_asked(tmp_path: Path) -> None:
    store, command = tmp_path / "a store", f": setup; {sys.executable} -c {shlex.quote(SWEEPS_COMMAND)}"
    assert head.submit(request(store, command))["is_new"]
    again = head.submit(request(store, command))
    folder = store / "sweeps" / "small" / "job"
    assert again["is_new"] is False
    assert (folder / "sweep.yaml").read_text() == SWEEP
    wait_until(lambda: (folder / "log").read_text() == "trains\n")
    assert head.stop({"store": str(store)}) == {"stopped": ["small"]}
    wait_until((folder / "ended.json").exists)
    assert head.state({"store": str(store), "sweep": "small"}) == {"code": 130}
    assert (folder / "log").read_text() == "trains\nleaves\n"


def test_following_a_job_shows_all_it_says_and_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    head.submit(request(store, "echo one; sleep 0.3; echo two; exit 1"))
    head.follow({"store": str(store), "sweep": "small", "stays": True})
    assert capsys.readouterr().out.splitlines()[:2] == ["one", "two"]
    wait_until((store / "sweeps" / "small" / "job" / "ended.json").exists)
    head.follow({"store": str(store), "sweep": "small", "stays": False})
    assert capsys.readouterr().out.splitlines()[-1] == "small: done, some runs failed"


def test_a_lost_job_is_told_as_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    head.submit(request(store, "true"))
    folder = store / "sweeps" / "small" / "job"
    wait_until((folder / "ended.json").exists)
    (folder / "ended.json").unlink()
    head.follow({"store": str(store), "sweep": "small", "stays": False})
    assert capsys.readouterr().out == "small: lost; submit it again, and it goes on\n"
    assert head.state({"store": str(store), "sweep": "small"}) == {"code": 130}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tokens of the tests are not those of the user."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"
