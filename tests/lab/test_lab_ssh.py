"""Real `ray up` over real ssh on three hosts: a raylet killed, a link cut, another shell, and nothing left behind."""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path

import pytest
from hosts import RUNS, Hosts, lacking

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
    return (store / "eureka.json").exists() and bool(Store(store).checkpoints.furthest() or Store(store).statuses())


def tables(store: Path) -> dict[str, str]:
    """Every file of the ledger and the curves, by what is in it."""
    found = sorted([*store.glob("runs/*"), *store.glob("metrics/*")])
    return {path.name + path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


SWEEP = "small.yaml base.budget.steps=20000"  # longer than it takes the last host to join
IS_WORKER = "ra[y]::.*Trainable"  # in brackets, so that the shell that asks is none
WORKER = f"pgrep -f '{IS_WORKER}' | head -n 1"
TRAINS = f"grep -q 'Trainable.train' /proc/$({WORKER})/cmdline"  # Ray names a worker's process after what it is doing


def freeze(hosts: Hosts, host: int) -> None:
    """Stop a host's worker in the middle of a step, and everything else of Ray there."""
    hosts.on(host, f"until {TRAINS}; do sleep 0.05; done; sleep 0.3; {TRAINS} && pkill -STOP ray")


def test_a_sweep_over_ssh_survives_a_killed_raylet_and_a_cut_link(hosts: Hosts) -> None:
    (hosts.shared / "ssh.yaml").write_text(CLUSTER.replace("PYTHON", sys.executable))
    store = hosts.shared / "store"
    first = hosts.start(0, hosts.eureka(f"run {SWEEP} --cluster ssh.yaml"))
    hosts.wait(
        lambda: first.poll() is not None or (is_under_way(store) and hosts.on(3, f"{TRAINS} && echo yes || true")),
        "the sweep is under way, on the last host, too",
    )
    assert first.poll() is None, "the command ended early"
    hosts.on(2, "pkill -KILL -x raylet")
    hosts.say("a raylet is killed")
    first.kill()  # the launcher's terminal is closed
    first.wait()
    freeze(hosts, 3)
    hosts.cut(3)
    hosts.say("a machine hangs, and its link is cut")
    ended = store / "sweeps" / "small" / "job" / "ended.json"
    hosts.wait(ended.exists, "the job has ended, with nobody there", most_s=600)
    assert len(Store(store).statuses()) == RUNS
    assert list((store / "checkpoints").iterdir()) == []
    before = tables(store)
    hosts.on(3, f"pkill -CONT -f '{IS_WORKER}'")
    hosts.wait(lambda: hosts.on(3, f"{TRAINS} || echo no"), "the late worker's step has come to its end")
    hosts.say(f"it left {len(list((store / 'checkpoints').iterdir()))} saved states of runs that are done")
    hosts.mend(3)
    hosts.on(3, "pkill -CONT ray")
    hosts.wait(lambda: not hosts.on(3, WORKER), "the cut-off worker has given up")
    assert tables(store) == before, "a late write counted"
    again = hosts.on(0, hosts.eureka(f"run {SWEEP} --cluster ssh.yaml --down"))
    assert "report: small-report/index.html" in again
    hosts.say("another shell has the report")
    assert tables(store) == before
    assert check(Store(store)) == []
    assert list((store / "checkpoints").iterdir()) == []
    assert hosts.rays() == [], "Ray still runs"
    hosts.say("nothing is left")


def test_bad_situations_are_one_line(hosts: Hosts) -> None:
    good = CLUSTER.replace("PYTHON", sys.executable)
    ray = Path(next(one for one in metadata.distribution("ray").files or [] if one.name == "METADATA").locate())
    taken = f"{sys.executable} -m http.server 6379 >/dev/null 2>&1 & sleep 2"
    bad = {
        "no key": (
            "",
            {"ssh_private_key: ~/.ssh/key": "ssh_private_key: ~/.ssh/other"},
            "got '~/.ssh/other'; expected",
        ),
        "a user whom nobody knows": ("", {"ssh_user: root": "ssh_user: nobody"}, "does not take the key"),
        "a host that is down": ("", {"10.88.0.13": "10.88.0.99"}, "ssh root@10.88.0.99: the machine does not answer"),
        "no environment": ("", {sys.executable: "/opt/none/bin/python"}, "/opt/none/bin/python: does not run; make"),
        "a store that is not shared": ("", {"/shared/store": "/srv/store"}, "is not the head's folder of that name"),
        "no accelerator": ("", {"cpus: 2": "cpus: 2, gpus: 1"}, "workers.gpus: got 1; expected 0 on machines without"),
        "a port that is taken": (taken, {}, "machine 10.88.0.11: port 6379: is taken"),
        "a full disk": ("pkill -f [h]ttp.server; fallocate -l 1500M /tmp/full", {}, "node 10.88.0.11: disk: got 5"),
        "another Ray": (
            f"rm /tmp/full; ON2 sed -i 's/^Version: .*/Version: 2.1/' {ray}",
            {},
            "node 10.88.0.12: ray: got 2.1",
        ),
    }
    for case, (prepare, changes, says) in bad.items():
        here, _, there = prepare.partition("ON2 ")
        hosts.on(1, here or "true")
        hosts.on(2, there or "true")
        cluster = good
        for old, new in changes.items():
            assert old in cluster, case
            cluster = cluster.replace(old, new)
        (hosts.shared / "bad.yaml").write_text(cluster)
        said = hosts.on(0, hosts.eureka("up bad.yaml") + " 2>&1 || true")
        hosts.say(said)
        assert says in said, (case, said)
        assert said.startswith("eureka: "), (case, said)
        assert said.count("\n") == 0, (case, said)
