"""Ray's own processes: workers, raylets, the head, the driver; killed, or stopped for longer than a heartbeat.

The nodes are raylets of one machine. A fault has a sweep of its own, from its beginning to its end, since a cluster
takes seconds to come up. Steps are counted as the sweep publishes them: what is repeated is known to about a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

from orchestrator.published import read
from tests.chaos.invariants import safe_steps
from tests.chaos.scene import Fault, Scene
from tests.chaos.smithy import ROOT, wait_until

LIMIT_S = 400.0
QUICK = {  # heartbeats, so that a node is given up in seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "700",
    "RAY_health_check_timeout_ms": "700",
    "RAY_health_check_failure_threshold": "4",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "8",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_autoscaler_v2": "0",
    "OMP_NUM_THREADS": "1",
}


class Cluster:
    """A head and another node, or more.

    Args:
        scene: for whose sweep.
    """

    def __init__(self, scene: Scene):
        self.log = (scene.forge.folder / "hosts.log").open("ab")
        self._hosts = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.hosts"],
            cwd=ROOT,
            env=os.environ | QUICK,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self._hosts.stdout is not None
        there = json.loads(self._hosts.stdout.readline())
        self.address, self.head, self.node = there["address"], there["head"], there["node"]

    def add(self) -> list[int]:
        """One more node."""
        assert self._hosts.stdin is not None
        assert self._hosts.stdout is not None
        self._hosts.stdin.write("add\n")
        self._hosts.stdin.flush()
        return json.loads(self._hosts.stdout.readline())["node"]

    def end(self) -> None:
        """Kill all of it."""
        for pid in [*below(self._hosts.pid), *self.head, *self.node, self._hosts.pid]:
            strike(pid, signal.SIGKILL)
        self._hosts.wait()
        for pipe in (self._hosts.stdin, self._hosts.stdout, self.log):
            with contextlib.suppress(OSError):
                pipe.close()


class Sweeping:
    """The real command, with Ray, on a scene's store.

    Args:
        scene: whose.
        cluster: where; its own Ray on this machine where there is none.
    """

    def __init__(self, scene: Scene, cluster: Cluster | None):
        self.scene, self.cluster = scene, cluster
        self.done = 0  # run-steps of commands that ended
        self.seen = 0  # of this one, as it last said
        self.start()

    def start(self) -> None:
        """Begin the command."""
        self.done, self.seen = self.done + self.seen, 0
        argv = ["run", str(self.scene.sweep), "--store", str(self.scene.store), "--width", "2", "--workers", "2"]
        argv += ["--device", "cpu", "--checkpoint-every", "0.5", "--no-report", "--quiet"]
        where = {"RAY_ADDRESS": self.cluster.address} if self.cluster else {}
        self.log = self.scene.forge.folder / f"sweeping-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli", *argv],
                cwd=ROOT,
                env=os.environ | QUICK | where | {"EUREKA_CACHE": str(self.scene.forge.folder / "cache")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def is_over(self) -> bool:
        """The command has ended; notes how many steps it has said by then."""
        word = read(self.scene.store / "sweeps" / self.scene.question)
        if word and word.get("pid") == self.process.pid:
            self.seen = max(self.seen, int(word.get("run_steps_done", 0)))
        return self.process.poll() is not None

    def get_on(self, *, beyond: int, what: str) -> int:
        """Wait until more than so many steps are safe."""
        steps = 0

        def is_so() -> bool:
            nonlocal steps
            over, steps = self.is_over, safe_steps(self.scene.store)
            time.sleep(0.1)
            assert not over or steps > beyond, f"it ended (exit {self.process.poll()}): {self.said[-600:]}"
            return steps > beyond

        wait_until(is_so, what=what, patience_s=LIMIT_S)
        return steps

    def wait(self) -> int:
        """Until it ends by itself."""
        wait_until(lambda: time.sleep(0.05) or self.is_over, what="the command to end", patience_s=LIMIT_S)
        return self.process.returncode

    def end(self) -> None:
        """Kill it and what it started."""
        for pid in [*below(self.process.pid), self.process.pid]:
            strike(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def said(self) -> str:
        """What it wrote."""
        return self.log.read_text(errors="replace")

    @property
    def trained(self) -> int:
        """By all commands, as far as they said [run-steps]."""
        return self.done + self.seen


def below(pid: int) -> list[int]:
    """Processes below a process, as /proc shows them now."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _read(entry / "stat")):
            parents[int(entry.name)] = int(stat.rpartition(b")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def named(pids: list[int], word: bytes) -> list[int]:
    return [pid for pid in pids if word in _read(Path(f"/proc/{pid}/cmdline"))]


def strike(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def under_way(scene: Scene, *, on_nodes: bool) -> Iterator[Sweeping]:
    """A sweep that trains, on two nodes or on a Ray of its own."""
    cluster = Cluster(scene) if on_nodes else None
    sweeping = Sweeping(scene, cluster)
    try:
        sweeping.get_on(beyond=0, what="a sweep with Ray to get under way")
        yield sweeping
    finally:
        sweeping.end()
        if sweeping.cluster:
            sweeping.cluster.end()


Strike = Callable[[Sweeping, Random], list[str]]


def suffered(scene: Scene, rng: Random, *, do: Strike, on_nodes: bool) -> list[str]:
    """Strike, wait until more is safe than was, and let the sweep end."""
    with under_way(scene, on_nodes=on_nodes) as sweeping:
        steps = safe_steps(scene.store)
        steps = sweeping.get_on(beyond=steps + rng.randint(0, 200), what="some steps before the fault")
        found = do(sweeping, rng)
        began = time.monotonic()
        steps = safe_steps(scene.store)
        if sweeping.is_over:
            sweeping.start()
        if steps < scene.calm.steps:
            sweeping.get_on(beyond=steps, what="the sweep to go on")
        scene.recovery_s = time.monotonic() - began
        code = sweeping.wait()
        found += [f"exit {code}: {sweeping.said[-600:]}"] if code else []
        found += ["a traceback"] if "Traceback" in sweeping.said else []
        scene.counted = max(0, sweeping.trained - scene.calm.steps)
    return found


def a_worker(sweeping: Sweeping, rng: Random, *, number: int) -> list[str]:
    there = named(_all(sweeping), b"Trainable")
    assert there, "no worker found"
    strike(rng.choice(there), number)
    return []


def the_driver(sweeping: Sweeping, rng: Random) -> list[str]:
    sweeping.process.kill()
    sweeping.process.wait()
    return []


def everything(sweeping: Sweeping, rng: Random) -> list[str]:
    for pid in [*_all(sweeping), sweeping.process.pid]:
        strike(pid, signal.SIGKILL)
    sweeping.process.wait()
    if sweeping.cluster:
        sweeping.cluster.end()
        sweeping.cluster = Cluster(sweeping.scene)
    return []


def a_raylet(sweeping: Sweeping, rng: Random) -> list[str]:
    assert sweeping.cluster
    for pid in sweeping.cluster.node:
        strike(pid, signal.SIGKILL)
    sweeping.cluster.node = sweeping.cluster.add()
    return []


def the_head(sweeping: Sweeping, rng: Random) -> list[str]:
    """The head's processes are gone: the driver ends, and the same command goes on once there is a head again."""
    assert sweeping.cluster
    for pid in sweeping.cluster.head:
        strike(pid, signal.SIGKILL)
    wait_until(lambda: time.sleep(0.1) or sweeping.is_over, what="the driver to notice", patience_s=LIMIT_S)
    sweeping.cluster.end()
    sweeping.cluster = Cluster(sweeping.scene)
    return []


def a_stopped_raylet(sweeping: Sweeping, rng: Random) -> list[str]:
    """Its workers go on and know nothing; their cohorts are given to others; then it wakes up."""
    assert sweeping.cluster
    raylets = named(sweeping.cluster.node, b"raylet")
    for pid in raylets:
        strike(pid, signal.SIGSTOP)
    sweeping.cluster.add()
    time.sleep(rng.uniform(6.0, 10.0))
    for pid in raylets:
        strike(pid, signal.SIGCONT)
    return []


def a_stopped_worker(sweeping: Sweeping, rng: Random) -> list[str]:
    there = rng.choice(named(_all(sweeping), b"Trainable"))
    strike(there, signal.SIGSTOP)
    time.sleep(rng.uniform(2.0, 5.0))
    strike(there, signal.SIGCONT)
    return []


def a_stopped_driver(sweeping: Sweeping, rng: Random) -> list[str]:
    strike(sweeping.process.pid, signal.SIGSTOP)
    time.sleep(rng.uniform(3.0, 8.0))
    strike(sweeping.process.pid, signal.SIGCONT)
    return []


def asked_to_stop(sweeping: Sweeping, rng: Random, *, number: int, times: int) -> list[str]:
    for _ in range(times):
        strike(sweeping.process.pid, number)
        time.sleep(rng.uniform(0.0, 0.5))
    code = sweeping.wait()
    return [] if code == 130 or times > 1 else [f"exit {code}: {sweeping.said[-400:]}"]


def a_second_command(sweeping: Sweeping, rng: Random) -> list[str]:
    second = sweeping.scene.start()
    code = second.wait()
    is_told = code == 2 and str(sweeping.process.pid) in second.said
    return [] if is_told or sweeping.is_over else [f"the second command was let in: exit {code}: {second.said[-300:]}"]


def _all(sweeping: Sweeping) -> list[int]:
    found = below(sweeping.process.pid)
    return found + below(sweeping.cluster._hosts.pid) if sweeping.cluster else found


def _fault(kind: str, do: Strike, *, on_nodes: bool) -> Fault:
    return Fault("Ray", kind, partial(suffered, do=do, on_nodes=on_nodes), is_whole=True, question="on_nodes")


FAULTS = (
    _fault("kill -9 of a worker", partial(a_worker, number=signal.SIGKILL), on_nodes=True),
    _fault("kill -9 of a node", a_raylet, on_nodes=True),
    _fault("SIGSTOP of a raylet until its node was given up, SIGCONT", a_stopped_raylet, on_nodes=True),
    _fault("kill -9 of the head", the_head, on_nodes=True),
    _fault("kill -9 of the driver", the_driver, on_nodes=True),
    _fault("kill -9 of everything at once", everything, on_nodes=True),
    _fault("kill -9 of the driver that started Ray", the_driver, on_nodes=False),
    _fault("kill -9 of everything at once, Ray's processes among it", everything, on_nodes=False),
    _fault("SIGSTOP, SIGCONT of a worker", a_stopped_worker, on_nodes=False),
    _fault("SIGSTOP, SIGCONT of the driver", a_stopped_driver, on_nodes=True),
    _fault("Ctrl-C once", partial(asked_to_stop, number=signal.SIGINT, times=1), on_nodes=False),
    _fault("Ctrl-C twice", partial(asked_to_stop, number=signal.SIGINT, times=2), on_nodes=False),
    _fault("SIGTERM", partial(asked_to_stop, number=signal.SIGTERM, times=1), on_nodes=True),
    _fault("a second command on the sweep", a_second_command, on_nodes=False),
)
