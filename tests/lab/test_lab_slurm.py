"""Real Slurm on three nodes: an array without Ray and an allocation with its own, queued again in mid-run."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from hosts import NODES, RUNS, Hosts, lacking

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
slurm: {mode: MODE, time_limit: "LIMIT", notice_s: 30}
"""
DONE_S = 400.0  # for a sweep with interruptions, on a machine that is busy with something else


def bring_up_slurm(hosts: Hosts) -> None:
    (hosts.shared / "munge.key").write_bytes(os.urandom(1024))
    for name in ("slurm.conf", "slurm.sh"):
        shutil.copy(Path(__file__).parent / name, hosts.shared)
    for i in (*range(1, NODES + 1), 0):
        hosts.on(i, f"bash /shared/slurm.sh {i} >/dev/null 2>&1 </dev/null")
    hosts.wait(lambda: "3" in hosts.on(0, "sinfo --noheader -t idle -o %D"), "three nodes are idle", most_s=60)


def write_cluster(hosts: Hosts, mode: str, *, limit: str = "00:20:00") -> None:
    text = CLUSTER.replace("PYTHON", sys.executable).replace("MODE", mode).replace("LIMIT", limit)
    (hosts.shared / "slurm.yaml").write_text(text)


def is_under_way(store: Path) -> bool:
    """Some states are saved, and no run is committed."""
    return (store / "eureka.json").exists() and bool(Store(store).checkpoints.furthest())


def all_done(store: Path) -> bool:
    return (store / "eureka.json").exists() and len(Store(store).statuses()) == RUNS


def restarts(hosts: Hosts, number: str) -> int:
    """How often Slurm has begun a job again."""
    found = re.search(r"Restarts=(\d+)", hosts.on(0, f"scontrol show job {number}"))
    return int(found[1]) if found else 0


def begin_now(hosts: Hosts, *numbers: str, limit: int) -> None:
    """Spare a test the two minutes that Slurm lets a job wait that is queued again, and further limits [min]."""
    hosts.wait(lambda: "3" in hosts.on(0, "sinfo --noheader -t idle -o %D"), "three nodes are idle", most_s=90)
    time.sleep(10)  # a node refuses a job whose last attempt it has just ended
    for number in numbers:
        hosts.on(0, f"scontrol update jobid={number} timelimit={limit} starttime=now")


def test_an_array_with_tasks_queued_again_finishes_exactly_once(hosts: Hosts) -> None:
    bring_up_slurm(hosts)
    write_cluster(hosts, "array")
    store = hosts.shared / "store"
    assert "queued as job" in hosts.on(0, hosts.eureka("submit slurm.yaml small.yaml"))
    hosts.wait(lambda: len(Store(store).statuses()) > 0, "the first runs are committed")
    array = hosts.on(0, "squeue --noheader -o %F").split()[0]
    hosts.on(0, f"scontrol requeue {array}_1; scancel --signal=USR1 --batch {array}_2")
    hosts.say("one task is queued again, another signalled as near its limit")
    hosts.wait(lambda: all_done(store), "all runs have their row", most_s=DONE_S)
    hosts.on(0, hosts.eureka("down slurm.yaml"))
    log = (store / "sweeps" / "small" / "slurm" / f"{array}_2.log").read_text()
    assert "saved near the time limit; queued again" in log
    assert check(Store(store)) == []
    assert list((store / "checkpoints").iterdir()) == []


def test_an_array_near_its_time_limit_saves_and_goes_on_until_it_is_done(hosts: Hosts) -> None:
    bring_up_slurm(hosts)
    write_cluster(hosts, "array", limit="00:01:00")
    store = hosts.shared / "store"
    said = hosts.on(0, hosts.eureka("submit slurm.yaml small.yaml base.budget.steps=3000"))
    assert "queued as job" in said
    logs = store / "sweeps" / "small" / "slurm"
    saved = "saved near the time limit; queued again"
    hosts.wait(lambda: any(saved in log.read_text() for log in logs.glob("*.log")), "Slurm signalled its own limit")
    steps = sum(step for _, step in Store(store).checkpoints.furthest().values())
    hosts.say(f"{len(Store(store).statuses())} runs are committed, {steps} steps of others saved")
    tasks = hosts.on(0, "squeue --noheader --array -o %F_%K").split()
    hosts.wait(lambda: all(restarts(hosts, task) for task in tasks), "all tasks are queued again", most_s=120)
    begin_now(hosts, *tasks, limit=20)
    hosts.wait(lambda: all_done(store), "all runs have their row", most_s=DONE_S)
    hosts.on(0, hosts.eureka("down slurm.yaml"))
    assert check(Store(store)) == []


def test_an_allocation_with_its_own_ray_queued_again_in_mid_run_finishes_exactly_once(hosts: Hosts) -> None:
    bring_up_slurm(hosts)
    write_cluster(hosts, "allocation, nodes: 3")
    store = hosts.shared / "store"
    assert "queued as job" in hosts.on(0, hosts.eureka("submit slurm.yaml small.yaml"))
    hosts.wait(lambda: is_under_way(store), "the sweep is under way")
    number = hosts.on(0, "squeue --noheader -o %A").split()[0]
    hosts.on(0, f"scontrol requeue {number}")
    hosts.wait(lambda: restarts(hosts, number) == 1, "the allocation is queued again", most_s=90)
    steps = sum(step for _, step in Store(store).checkpoints.furthest().values())
    hosts.say(f"{len(Store(store).statuses())} runs are committed, {steps} steps of others saved")
    assert not all_done(store), "nothing was left to go on with"
    begin_now(hosts, number, limit=20)
    hosts.wait(lambda: all_done(store), "all runs have their row", most_s=DONE_S)
    hosts.wait(lambda: not hosts.on(0, "squeue --noheader"), "the job has left", most_s=90)
    assert check(Store(store)) == []
    assert list((store / "checkpoints").iterdir()) == []
    hosts_used = set(Store(store).runs_table(columns=["run_id", "host"])["host"].to_pylist())
    assert len(hosts_used) >= 2, hosts_used
    assert hosts.rays() == [], "Ray still runs"
