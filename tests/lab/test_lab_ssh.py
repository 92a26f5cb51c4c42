"""Real `ray up` over real ssh on three hosts: a raylet killed, a link cut, another shell, and nothing left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hosts import NODES, Hosts, lacking

from analysis.store import Store
from analysis.upkeep import check

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(lacking("sshd", "rsync", "ip")), reason=lacking("sshd", "rsync")),
]
CLUSTER = """
name: lab
launcher: ray
workers: {count: 3, cpus: 2, slots: 4}
store: /shared/store
environment: {python: PYTHON}
spot: {checkpoint_s: 1}
ray:
  provider: {type: local, head_ip: 10.88.0.11, worker_ips: [10.88.0.12, 10.88.0.13]}
  auth: {ssh_user: root, ssh_private_key: ~/.ssh/key}
"""


def is_under_way(store: Path) -> bool:
    """Some states are saved or runs committed."""
    return (store / "eureka.json").exists() and bool(Store(store).saved_states() or Store(store).statuses())


def test_a_sweep_over_ssh_survives_a_killed_raylet_and_a_cut_link(hosts: Hosts) -> None:
    (hosts.shared / "ssh.yaml").write_text(CLUSTER.replace("PYTHON", sys.executable))
    store = hosts.shared / "store"
    first = hosts.start(0, hosts.eureka("run small.yaml --cluster ssh.yaml"))
    hosts.wait(lambda: first.poll() is not None or is_under_way(store), "the sweep is under way")
    assert first.poll() is None, "the command ended early"
    hosts.on(2, "pkill -KILL -x raylet")
    hosts.say("a raylet is killed")
    first.kill()  # the launcher's terminal is closed
    first.wait()
    hosts.cut(3)
    hosts.say("a link is cut")
    lock = store / "sweeps" / "small" / "job" / "ended.json"
    hosts.wait(lock.exists, "the job has ended, with nobody there")
    hosts.mend(3)
    again = hosts.on(0, hosts.eureka("run small.yaml --cluster ssh.yaml --down"))
    assert "report: small-report/index.html" in again
    hosts.say("another shell has the report")
    assert len(Store(store).statuses()) == 16
    assert check(Store(store)) == []
    left = [hosts.on(i, "pgrep -x 'raylet|gcs_server'") for i in range(1, NODES + 1)]
    assert left == [""] * NODES, "Ray still runs"
    hosts.say("nothing is left")


def test_bad_situations_are_one_line(hosts: Hosts) -> None:
    text = CLUSTER.replace("PYTHON", sys.executable)
    bad = {
        "a key that is not taken": (text.replace("ssh_user: root", "ssh_user: nobody"), "does not take the key"),
        "a host that is down": (text.replace("head_ip: 10.88.0.11", "head_ip: 10.88.0.99"), "does not answer"),
        "no sshd": (text.replace("ssh_user: root", "ssh_user: root, ssh_proxy_command: 'false'"), "ssh"),
    }
    for case, (cluster, says) in bad.items():
        (hosts.shared / "bad.yaml").write_text(cluster)
        said = hosts.on(0, hosts.eureka("up bad.yaml") + " 2>&1 || true")
        assert says in said, (case, said)
        assert said.count("\n") == 0, (case, said)
        hosts.say(said)
