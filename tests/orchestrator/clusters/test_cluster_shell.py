"""Bad situations: what ssh, Ray, Slurm, clouds and kubectl say, as one line with a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.clusters.fitness import unfit
from orchestrator.clusters.shell import CommandFailed, Local, failure

HERE = {"versions": {"python": "3.11.7", "ray": "2.60.0"}, "sees_token": True, "free": 2**40}
SITUATIONS = {
    "no ssh key, or the wrong user": (
        "NodeUpdater: fetching\nyou@10.0.0.1: Permission denied (publickey,password).\nErr: SSH still not available",
        "the machine does not take the key (you@10.0.0.1: Permission denied",
    ),
    "a host that is down": ("ssh: connect to host 10.0.0.9 port 22: No route to host", "does not answer"),
    "a host that nobody knows": (
        "ssh: Could not resolve hostname lab9: Name or service not known",
        "no machine of that name",
    ),
    "sshd is not up": ("ssh: connect to host 10.0.0.9 port 22: Connection refused", "nothing listens there"),
    "another Ray on a node": (
        "RuntimeError: Version mismatch: The cluster was started with:\n    Ray: 2.60.0",
        "install the versions of constraints.txt",
    ),
    "a full disk on the head": ("OSError: [Errno 28] No space left on device: '/tmp/ray'", "a disk is full"),
    "a port that is taken": ("ConnectionError: ... [Errno 98] Address already in use", "its port is taken"),
    "expired credentials": (
        "botocore.exceptions.ClientError: An error occurred (ExpiredToken) when calling DescribeInstances",
        "aws sso login",
    ),
    "an unknown instance type": (
        "An error occurred (InvalidParameterValue) when calling RunInstances: Invalid value 'g9.x' for instance type",
        "check the instance type",
    ),
    "an unknown instance type, as Ray's log has it": (
        "2026-11-21 15:35:33,500\tWARN node_provider.py:487 -- create_instances: Attempt failed with An error "
        "occurred (InvalidInstanceType.NotFound) when calling the RunInstances operation (reached max retries)",
        "no such machine there (create_instances: Attempt failed",
    ),
    "no capacity": ("An error occurred (InsufficientInstanceCapacity) when calling RunInstances", "try another zone"),
    "no such partition": ("sbatch: error: invalid partition specified: gpu", "`sinfo` lists them"),
    "no KubeRay": ('error: no matches for kind "RayJob" in version "ray.io/v1"', "install the KubeRay operator"),
    "something else": ("one\nlast words\n\n", "failed with code 1: last words"),
}


@pytest.mark.parametrize("case", SITUATIONS)
def test_a_bad_situation_is_one_line_with_its_way_out(case: str) -> None:
    output, says = SITUATIONS[case]
    line = failure(["/opt/bin/ray", "up", "x.yaml"], output, code=1)
    assert says in line
    assert "\n" not in line
    assert line.startswith("ray up: ")


def test_a_tool_that_is_not_installed_says_where_it_comes_from() -> None:
    with pytest.raises(CommandFailed, match="no-such-tool: not installed on this machine"):
        Local().run(["no-such-tool"])


def test_a_command_that_hangs_is_given_up() -> None:
    with pytest.raises(CommandFailed, match="does not answer"):
        Local().run(["sleep", "5"], timeout_s=0.05)


def test_a_failing_command_tells_its_last_line() -> None:
    with pytest.raises(CommandFailed, match=r"bash -c: failed with code 3: at last$"):
        Local().run(["bash", "-c", "echo at first; echo at last >&2; exit 3"])
    assert Local().run(["cat"], stdin="a") == "a"


def test_much_that_an_unknown_failure_said_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path))
    with pytest.raises(CommandFailed, match=r"bash -c: failed with code 3: 20; all it said is in (\S+)$") as raised:
        Local().run(["bash", "-c", "seq 20; exit 3"])
    path = Path(str(raised.value).rpartition(" ")[2])
    assert path.read_text().splitlines() == [str(n) for n in range(1, 21)]
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(CommandFailed, match=r"a disk is full .*another store$"):
        Local().run(["bash", "-c", "seq 20; echo No space left on device; exit 3"])


def test_nodes_that_are_not_fit_are_told_one_by_one() -> None:
    nodes = {
        "n1": HERE,
        "n2": {**HERE, "sees_token": False},
        "n3": {**HERE, "versions": {"python": "3.11.7", "ray": "2.59.0"}},
        "n4": {**HERE, "free": 2**20},
    }
    store, version, disk = unfit(nodes, here=HERE, store="/shared/store")
    assert store.startswith("node n2: store /shared/store: is not the head's folder")
    assert "mount" in store
    assert version.startswith("node n3: ray: got 2.59.0; expected the head's 2.60.0")
    assert disk.startswith("node n4: disk: got 1 MiB free")
