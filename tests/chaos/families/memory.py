"""A command that gets no more memory: its width halves, or it ends, or runs have a failed row that a retry replaces."""

from __future__ import annotations

import resource
import time
from functools import partial
from pathlib import Path
from random import Random

from tests.chaos.scene import Fault, Scene
from tests.chaos.smithy import wait_until


def no_more(scene: Scene, rng: Random, *, spare: int) -> list[str]:
    victim = scene.victim(rng, most=60)
    size = int(Path(f"/proc/{victim.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + spare
    resource.prlimit(victim.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    scene.is_retried = True
    until = time.monotonic() + 1.5
    while not victim.is_over and time.monotonic() < until:
        time.sleep(0.02)
    if not victim.is_over:
        resource.prlimit(victim.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return scene.spoken(victim)  # what it has already may be enough for the rest


def from_the_beginning(scene: Scene, rng: Random) -> list[str]:
    """So little that setting up, training or committing fails somewhere."""
    for process in scene.processes:
        process.end()
    scene.is_retried = True
    victim = scene.start()
    no_more_now = int(Path(f"/proc/{victim.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    limit = no_more_now + rng.randint(0, 120) * 2**20
    resource.prlimit(victim.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    wait_until(lambda: victim.is_over or victim.trained > 150, what="a command short of memory to end or to go on")
    scene.on_time(victim)
    victim.end()
    return scene.spoken(victim)


FAULTS = (
    Fault("out of memory", "too little from the beginning", from_the_beginning),
    Fault("out of memory", "not a page more", partial(no_more, spare=0)),
    Fault("out of memory", "a MiB more", partial(no_more, spare=2**20)),
)
