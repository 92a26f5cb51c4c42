"""kill -9 of one command and of all at once, at any moment and between any two changes to the store."""

from __future__ import annotations

import signal
import time
from random import Random

from tests.chaos.page import KILL
from tests.chaos.scene import Fault, Scene, blow
from tests.chaos.smithy import wait_until

CHANGES = 40  # to the store, in about a third of a sweep


def at_any_moment(scene: Scene, rng: Random) -> list[str]:
    victim = scene.victim(rng)
    time.sleep(rng.uniform(0.0, 0.2))
    victim.end()
    scene.on_time(victim)
    return []


def between_two_changes(scene: Scene, rng: Random) -> list[str]:
    victim = scene.victim(rng)
    blow(victim, after=rng.randint(1, CHANGES), strike=KILL)
    victim.wait()
    scene.on_time(victim)
    return []


def at_the_beginning(scene: Scene, rng: Random) -> list[str]:
    """While the command plans, settles what the last one left, and makes the store: changes 1 to 12."""
    for process in scene.processes:
        process.end()
    victim = scene.start(fuse=rng.randint(1, 12), strike=KILL)
    victim.wait()
    scene.on_time(victim)
    return []


def everything_at_once(scene: Scene, rng: Random) -> list[str]:
    for process in scene.processes:
        process.end()
    several = [scene.start(is_shared=True) for _ in range(rng.randint(2, 3))]
    wanted = rng.randint(1, 100)
    done = lambda: sum(one.trained for one in several) > wanted or any(one.is_over for one in several)  # noqa: E731
    wait_until(done, what="one of several to get under way")
    for one in several:
        one.send(signal.SIGKILL)
    for one in several:
        one.wait()
        scene.on_time(one)
    return []


def of_a_merge(scene: Scene, rng: Random) -> list[str]:
    """Kill the command, and then the `compact` of what it has left, between two changes."""
    victim = scene.victim(rng)
    victim.end()
    scene.on_time(victim)
    merge = scene.forge.begin(["compact", scene.address], store=scene.store, fuse=rng.randint(1, 20), strike=KILL)
    merge.wait()
    return scene.spoken(merge)


FAULTS = (
    Fault("kill -9", "of the command, at any moment", at_any_moment),
    Fault("kill -9", "of the command, between two changes to the store", between_two_changes),
    Fault("kill -9", "of the command, while it plans", at_the_beginning),
    Fault("kill -9", "of everything at once", everything_at_once),
    Fault("kill -9", "of `eureka compact`", of_a_merge, shows=("2 ledger rows", "its steps are in 2 files")),
)
