"""SIGSTOP for longer than a lease, then SIGCONT: a command that others took for dead, and that does not know it."""

from __future__ import annotations

import signal
import time
from random import Random

from tests.chaos.page import STOP
from tests.chaos.scene import LEASE_S, Fault, Scene, blow
from tests.chaos.smithy import Process, wait_until

STUCK_S = 4.0  # without a step of the other: the stopped one holds the lock


def alone(scene: Scene, rng: Random) -> list[str]:
    victim = scene.victim(rng)
    victim.send(signal.SIGSTOP)
    time.sleep(LEASE_S * rng.uniform(0.2, 1.5))
    victim.send(signal.SIGCONT)
    return []


def taken_for_dead(scene: Scene, rng: Random) -> list[str]:
    """Stopped at any moment; goes on while the other trains its runs, or when all is done."""
    victim, other = _two(scene)
    wait_until(lambda: victim.trained > rng.randint(1, 60) or victim.is_over, what="the first to get under way")
    scene.on_time(victim)
    victim.send(signal.SIGSTOP)
    return _outlived(scene, victim, other, rng)


def taken_for_dead_between_two_changes(scene: Scene, rng: Random) -> list[str]:
    """Stopped just before it changes the store, so that the change comes when its runs have long been another's."""
    victim, other = _two(scene)
    wait_until(lambda: victim.trained > 0 or victim.is_over, what="the first to get under way")
    blow(victim, after=rng.randint(1, 30), strike=STOP)
    wait_until(lambda: victim.is_stopped or victim.is_over, what="the first to be stopped")
    scene.on_time(victim)
    return _outlived(scene, victim, other, rng)


def _two(scene: Scene) -> tuple[Process, Process]:
    return scene.start(is_shared=True), scene.start(is_shared=True)


def _outlived(scene: Scene, victim: Process, other: Process, rng: Random) -> list[str]:
    until = time.monotonic() + LEASE_S * rng.uniform(1.5, 6.0)
    last, moved = other.trained, time.monotonic()
    while time.monotonic() < until and not other.is_over and time.monotonic() - moved < STUCK_S:
        if other.trained != last:
            last, moved = other.trained, time.monotonic()
        time.sleep(0.02)
    victim.send(signal.SIGCONT)
    codes = [victim.wait(), other.wait()]
    found = [f"exits {codes}"] if any(codes) else []
    return found + scene.spoken(victim) + scene.spoken(other)


FAULTS = (
    Fault("SIGSTOP, SIGCONT", "of the only command", alone),
    Fault("SIGSTOP, SIGCONT", "of one that shares, for longer than its lease", taken_for_dead, is_whole=True),
    Fault(
        "SIGSTOP, SIGCONT",
        "of one that shares, between two changes to the store",
        taken_for_dead_between_two_changes,
        is_whole=True,
    ),
)
