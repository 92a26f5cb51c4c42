"""A store in a bucket, and a gateway that stops, refuses, is slow, answers 500 and 503, or loses its answers half-way.

A real S3-compatible server on loopback (tests/analysis/buckets.py), and before it a gate through which all requests go.
A fault has a sweep of its own, from its beginning to its end. The server keeps objects in memory, so it is stopped and
woken, and its connections are cut, but it is not killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random

from tests.analysis.buckets import UNSET, Gate, answer, environment, gateway, make_bucket
from tests.chaos.invariants import promises
from tests.chaos.scene import Fault, Scene, TooLateError
from tests.chaos.smithy import Process, wait_until

AWAY_S = 3.0
LONG_S = 600.0


class Slow(Gate):
    """A gate that is slow, while it is told to be."""

    delay_s = 0.0

    def _serve(self, client: object) -> None:
        time.sleep(self.delay_s)
        super()._serve(client)  # type: ignore[arg-type]


Strike = Callable[[Scene, Process, Slow, "subprocess.Popen[str] | None", Random], None]


@contextmanager
def in_a_bucket(scene: Scene) -> Iterator[tuple[Slow, subprocess.Popen[str] | None]]:
    """The scene's store is in a bucket, behind a gate."""
    with gateway() as (port, server), Slow(port) as gate:
        make_bucket(port, "bucket")
        settings = environment(gate.port)
        before = {name: os.environ.get(name) for name in (*settings, *UNSET)}
        os.environ.update(settings)
        for name in UNSET:
            os.environ.pop(name, None)
        scene.address, scene.environment = f"s3://bucket/{scene.folder.name}", settings
        try:
            yield gate, server
        finally:
            for process in scene.processes:
                process.end()
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def suffered(scene: Scene, rng: Random, *, do: Strike) -> list[str]:
    """Strike, run the command again where it ended, and compare."""
    with in_a_bucket(scene) as (gate, server):
        victim = scene.start()
        wanted = rng.randint(1, 200)
        wait_until(lambda: victim.trained >= wanted or victim.is_over, what="a sweep in a bucket", patience_s=LONG_S)
        if victim.is_over:
            raise TooLateError
        do(scene, victim, gate, server, rng)
        found = scene.spoken(victim)
        began = time.monotonic()
        process = scene.running()
        before = process.trained
        goes_on = lambda: process.trained > before or process.is_over  # noqa: E731
        wait_until(goes_on, what="the sweep to go on", patience_s=LONG_S)
        scene.recovery_s = time.monotonic() - began
        code = process.wait(patience_s=LONG_S)
        found += scene.spoken(process) + ([f"exit {code}: {process.said[-600:]}"] if code else [])
        found += scene.calm.objections(scene.address, is_done=True) + promises(scene.address)
        scene.counted = max(0, scene.trained - scene.calm.steps)
    return found


def stopped(scene: Scene, victim: Process, gate: Slow, server: subprocess.Popen[str] | None, rng: Random) -> None:
    if server is None:
        raise TooLateError
    server.send_signal(signal.SIGSTOP)
    time.sleep(AWAY_S)
    server.send_signal(signal.SIGCONT)


def refusing(scene: Scene, victim: Process, gate: Slow, server: subprocess.Popen[str] | None, rng: Random) -> None:
    gate.shut()
    time.sleep(AWAY_S)
    gate.reopen()


def answering(
    scene: Scene, victim: Process, gate: Slow, server: subprocess.Popen[str] | None, rng: Random, *, what: bytes
) -> None:
    n = rng.randint(1, 8)
    gate.answers += [what] * n
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not gate.answers or victim.is_over, what="answers to be taken", patience_s=30.0)
    gate.answers.clear()


def forgetful(scene: Scene, victim: Process, gate: Slow, server: subprocess.Popen[str] | None, rng: Random) -> None:
    """Requests are done, and their answers lost: of entries of the log, too."""
    gate.swallows += rng.choice([["PUT .*log"], ["PUT .*runs"], ["PUT"], ["PUT .*log", "PUT .*log"], ["DELETE"]])
    time.sleep(AWAY_S)
    gate.swallows.clear()


def throttled(scene: Scene, victim: Process, gate: Slow, server: subprocess.Popen[str] | None, rng: Random) -> None:
    gate.delay_s = rng.uniform(0.2, 0.6)
    time.sleep(AWAY_S)
    gate.delay_s = 0.0


def killed(scene: Scene, victim: Process, gate: Slow, server: subprocess.Popen[str] | None, rng: Random) -> None:
    """The command, after so many further requests."""
    wanted = len(gate.seen) + rng.randint(0, 12)
    wait_until(lambda: len(gate.seen) >= wanted or victim.is_over, what="further requests", patience_s=LONG_S)
    victim.end()
    scene.on_time(victim)


def killed_while_refusing(
    scene: Scene, victim: Process, gate: Slow, server: subprocess.Popen[str] | None, rng: Random
) -> None:
    gate.shut()
    time.sleep(rng.uniform(0.0, 1.0))
    victim.end()
    threading.Timer(1.0, gate.reopen).start()  # while the next command plans


def _missing() -> str:
    lacking = [name for name in ("obstore", "moto") if importlib.util.find_spec(name) is None]
    return f"needs {' and '.join(lacking)}" if lacking else ""


def _fault(kind: str, do: Strike) -> Fault:
    strike = partial(suffered, do=do)
    return Fault("object store", kind, strike, is_whole=True, question="declared", needs=_missing)


FAULTS = (
    _fault("the gateway is stopped, and woken", stopped),
    _fault("connections are cut and refused for a while", refusing),
    _fault("some answers are 500", partial(answering, what=answer(500, "InternalError"))),
    _fault("some answers are 503", partial(answering, what=answer(503, "SlowDown"))),
    _fault("some connections are cut half-way", partial(answering, what=b"")),
    _fault("requests are done, their answers lost", forgetful),
    _fault("every request is slow", throttled),
    _fault("kill -9 of the command between two requests", killed),
    _fault("kill -9 of the command while the gateway refuses", killed_while_refusing),
)
