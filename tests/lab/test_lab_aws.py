"""Ray's own AWS provider against a pretended EC2 whose instances are the lab's hosts: from none to three and back."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hosts import HERE, NODES, ROOT, RUNS, Hosts, lacking

from analysis.store import Store
from analysis.upkeep import check

LACKS = lacking("sshd", "rsync", "ip") or ("" if find_spec("moto") and find_spec("boto3") else "needs moto and boto3")
pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(LACKS), reason=LACKS)]
EC2 = "http://10.88.0.10:5555"
CLUSTER = """
name: rented
launcher: ray
workers: {count: 2, cpus: 1, slots: 2}
store: /shared/store
environment: {python: PYTHON}
spot: {use: true, checkpoint_s: 5}
ray:
  max_workers: 2
  idle_timeout_minutes: 1
  provider: {type: aws, region: us-west-2, cache_stopped_nodes: false, use_internal_ips: true}
  auth: {ssh_user: root, ssh_private_key: ~/.ssh/key}
  available_node_types:
    head:
      resources: {CPU: 0}
      node_config: {InstanceType: m5.large, ImageId: ami-12c6146b, KeyName: lab}
    spot:
      min_workers: 0
      max_workers: 2
      resources: {CPU: 1}
      node_config:
        {InstanceType: g5.xlarge, ImageId: ami-12c6146b, KeyName: lab, InstanceMarketOptions: {MarketType: spot}}
  head_node_type: head
"""


class Ec2:
    """Gives each instance a host of the lab, and takes it away again.

    Args:
        hosts: of which 1 to 3 are instances, and 0 is the user's machine, on which the pretended EC2 runs, too.
    """

    def __init__(self, hosts: Hosts):
        self.hosts, self.folder = hosts, hosts.shared / "ec2"
        self.given: dict[str, int] = {}  # instance -> host
        self.log: list[str] = []
        self.folder.mkdir()
        for file in (hosts.folder / "key.pub", HERE / "ec2.py", ROOT / "tests" / "orchestrator" / "metadata.py"):
            shutil.copy(file, self.folder)
        hosts.on(0, "ip addr add 172.31.250.1/16 dev eth0")
        for i in range(NODES + 1):
            hosts.on(i, "mkdir -p ~/.aws; echo '[default]' > ~/.aws/credentials; cp ~/.aws/credentials ~/.aws/config")
            hosts.on(i, "printf 'aws_access_key_id = lab\naws_secret_access_key = lab\n' >> ~/.aws/credentials")
            hosts.on(i, f"printf 'region = us-west-2\nendpoint_url = {EC2}\n' >> ~/.aws/config")
        for i in range(1, NODES + 1):
            hosts.on(i, "ip addr add 169.254.169.254/32 dev lo")
        self._left = list(range(1, NODES + 1))
        self._servers = [hosts.start(0, f"{sys.executable} -W ignore /shared/ec2/ec2.py 10.88.0.10 5555 /shared/ec2")]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep)

    @contextmanager
    def running(self) -> Iterator[Ec2]:
        self.hosts.wait((self.folder / "instances.json").exists, "EC2 is there", most_s=120)
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._thread.join()
            for server in self._servers:
                server.kill()
                server.wait()

    def up(self) -> dict[str, dict[str, Any]]:
        return json.loads((self.folder / "instances.json").read_text())

    def spots(self) -> list[str]:
        return [name for name, instance in self.up().items() if instance["is_spot"] and name in self.given]

    def warn(self, instance: str) -> None:
        """The two minutes' notice."""
        self.hosts.on(self.given[instance], "touch /tmp/notice")

    def reclaim(self, instance: str) -> None:
        (self.folder / f"reclaim-{instance}").touch()

    def _keep(self) -> None:
        while not self._ended.wait(0.5):
            up = self.up()
            for instance in list(self.given):
                if instance not in up:
                    host = self.given.pop(instance)
                    self.hosts.on(host, "pkill -KILL ray; pkill -KILL gcs_server; pkill -KILL python")
                    self.hosts.on(host, "rm -rf /tmp/notice /tmp/ray; ip addr flush dev eth0 to 172.31.0.0/16")
                    self._left.append(host)
                    self.say(f"{instance} is gone from host {host}")
            for instance, told in up.items():
                if instance not in self.given:
                    host = self._left.pop(0)
                    self.hosts.on(host, f"ip addr add {told['ip']}/16 dev eth0")
                    metadata = "/shared/ec2/metadata.py 169.254.169.254 80 /tmp/notice"
                    self._servers.append(self.hosts.start(host, f"{sys.executable} {metadata}"))
                    self.given[instance] = host
                    kind = "spot" if told["is_spot"] else "on demand"
                    self.say(f"{instance} ({told['type']}, {kind}, {told['ip']}) is host {host}")

    def say(self, what: str) -> None:
        self.log.append(what)
        self.hosts.say(what)


def saved_steps(store: Path) -> int:
    return sum(step for _, step in Store(store).checkpoints.furthest().values())


def test_spot_machines_come_for_a_sweep_are_replaced_and_leave_none_behind(hosts: Hosts) -> None:
    store = hosts.shared / "store"
    (hosts.shared / "aws.yaml").write_text(CLUSTER.replace("PYTHON", sys.executable))
    with Ec2(hosts).running() as ec2:
        sweep = hosts.start(0, hosts.eureka("run small.yaml base.budget.steps=2000 --cluster aws.yaml"))
        hosts.wait(lambda: sweep.poll() is not None or len(ec2.spots()) == 2, "two spot machines are up", most_s=600)
        assert sweep.poll() is None, "the command ended early"
        hosts.wait(
            lambda: (store / "eureka.json").exists() and len(Store(store).checkpoints.furthest()) >= 3,
            "both train",
            most_s=600,
        )
        doomed = ec2.spots()[0]
        ec2.warn(doomed)
        hosts.say(f"{doomed} has its notice; {saved_steps(store)} steps are saved")
        time.sleep(20)
        ec2.reclaim(doomed)
        hosts.wait(lambda: doomed not in ec2.given, f"{doomed} is reclaimed")
        hosts.wait(lambda: len(ec2.spots()) == 2, "a replacement is up", most_s=600)
        hosts.wait(lambda: sweep.poll() is not None, "the sweep has ended", most_s=600)
        assert sweep.returncode == 0
        log = (store / "sweeps" / "small" / "job" / "log").read_text()
        assert "1 worker lost, their cohorts went on" in log, "the notice was not heard"
        assert len(Store(store).statuses()) == RUNS
        assert check(Store(store)) == []
        hosts.wait(lambda: not ec2.spots(), "idle machines are given back", most_s=600)
        assert len(ec2.up()) == 1
        assert hosts.on(0, hosts.eureka("down aws.yaml")) == "rented: down"
        hosts.wait(lambda: not ec2.up(), "no instance is left")
        assert sum("spot" in line and "is host" in line for line in ec2.log) >= 3


@pytest.mark.parametrize(
    ("sets", "changes", "says"),
    [
        ({"INITIAL_NO_AUTH_ACTION_COUNT": "0"}, {}, "ray up: the provider refuses the credentials ("),
        (
            {"MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true"},
            {"m5.large": "g9.nope"},
            "ray up: the provider has no such machine there (",
        ),
    ],
    ids=["expired credentials", "an unknown machine type"],
)
def test_a_refusal_of_the_provider_is_one_line(
    tmp_path: Path, sets: dict[str, str], changes: dict[str, str], says: str
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".ssh").mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / ".ssh" / "key"], check=True)
    text = CLUSTER.replace("PYTHON", sys.executable)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "aws.yaml").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = x\naws_secret_access_key = y\n")
    (tmp_path / ".aws" / "config").write_text(
        f"[default]\nregion = us-west-2\nendpoint_url = http://127.0.0.1:{port}\n"
    )
    policies = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-p", str(port)],
        env={**os.environ, **policies, **sets},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        sets_here = {**os.environ, "HOME": str(tmp_path), "EUREKA_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", "up", str(tmp_path / "aws.yaml")],
            env={**sets_here, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        server.kill()
        server.wait()
    print(f"\n{done.stderr}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"eureka: {says}")
    assert done.stderr.count("\n") == 1


def wait_for(port: int) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.2)
