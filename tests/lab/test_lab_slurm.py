"""Real Slurm on three nodes: an array without Ray, one task queued again by hand, one by its own signal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from hosts import NODES, Hosts, lacking

from analysis.store import Store
from analysis.upkeep import check

TOOLS = ("slurmctld", "slurmd", "munged", "sbatch", "sshd", "ip")
pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(lacking(*TOOLS)), reason=lacking(*TOOLS))]
CLUSTER = """
name: lab
launcher: slurm
workers: {count: 3, cpus: 1, slots: 2}
store: /shared/store
environment: {python: PYTHON, variables: {EUREKA_CACHE: /tmp/cache}}
spot: {checkpoint_s: 1}
slurm: {mode: MODE, time_limit: "00:10:00", notice_s: 30}
"""


def bring_up_slurm(hosts: Hosts) -> None:
    (hosts.shared / "munge.key").write_bytes(os.urandom(1024))
    for name in ("slurm.conf", "slurm.sh"):
        shutil.copy(Path(__file__).parent / name, hosts.shared)
    for i in (*range(1, NODES + 1), 0):
        hosts.on(i, f"bash /shared/slurm.sh {i} >/dev/null 2>&1 </dev/null")
    hosts.wait(lambda: "3" in hosts.on(0, "sinfo --noheader -t idle -o %D"), "three nodes are idle", most_s=60)


def write_cluster(hosts: Hosts, mode: str) -> None:
    (hosts.shared / "slurm.yaml").write_text(CLUSTER.replace("PYTHON", sys.executable).replace("MODE", mode))


def test_an_array_with_tasks_queued_again_finishes_exactly_once(hosts: Hosts) -> None:
    bring_up_slurm(hosts)
    write_cluster(hosts, "array")
    store = hosts.shared / "store"
    assert "queued as job" in hosts.on(0, hosts.eureka("submit slurm.yaml small.yaml"))
    hosts.wait(lambda: len(Store(store).statuses()) > 0, "the first runs are committed")
    array = hosts.on(0, "squeue --noheader -o %F").split()[0]
    hosts.on(0, f"scontrol requeue {array}_1; scancel --signal=USR1 --batch {array}_2")
    hosts.say("one task is queued again, another signalled as near its limit")
    hosts.wait(lambda: len(Store(store).statuses()) == 16, "all runs have their row")
    hosts.on(0, hosts.eureka("down slurm.yaml"))
    log = (store / "sweeps" / "small" / "slurm" / f"{array}_2.log").read_text()
    assert "saved near the time limit; queued again" in log
    assert check(Store(store)) == []
    assert list((store / "checkpoints").iterdir()) == []


def test_an_allocation_with_its_own_ray_finishes(hosts: Hosts) -> None:
    bring_up_slurm(hosts)
    write_cluster(hosts, "allocation, nodes: 3")
    store = hosts.shared / "store"
    assert "queued as job" in hosts.on(0, hosts.eureka("submit slurm.yaml small.yaml"))
    hosts.wait(lambda: (store / "runs").exists() and len(Store(store).statuses()) == 16, "all runs have their row")
    hosts.wait(lambda: not hosts.on(0, "squeue --noheader"), "the job has left", most_s=90)
    assert check(Store(store)) == []
    hosts_used = set(Store(store).runs_table(columns=["run_id", "host"])["host"].to_pylist())
    assert len(hosts_used) >= 2, hosts_used
