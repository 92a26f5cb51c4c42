"""Ctrl-C, a scheduler's signals and a closed terminal: once, and again before the command has left."""

from __future__ import annotations

import signal
import time
from functools import partial
from random import Random

from tests.chaos.scene import Fault, Scene


def once(scene: Scene, rng: Random, *, number: int) -> list[str]:
    victim = scene.victim(rng)
    victim.send(number)
    code = victim.wait()
    scene.on_time(victim)
    found = scene.spoken(victim)
    if number == signal.SIGHUP:
        return found
    if code != 130 or "the same command goes on" not in victim.said:
        found.append(f"exit {code}, having said: {victim.said[-300:]}")
    return found


def twice(scene: Scene, rng: Random, *, number: int) -> list[str]:
    victim = scene.victim(rng)
    victim.send(number)
    time.sleep(rng.choice([0.0, 0.001, 0.02, 0.1]))
    victim.send(number)
    code = victim.wait()
    scene.on_time(victim)
    return scene.spoken(victim) + ([] if code == 130 else [f"exit {code}, having said: {victim.said[-300:]}"])


FAULTS = (
    Fault("signals", "Ctrl-C once", partial(once, number=signal.SIGINT)),
    Fault("signals", "Ctrl-C twice", partial(twice, number=signal.SIGINT)),
    Fault("signals", "SIGTERM once", partial(once, number=signal.SIGTERM)),
    Fault("signals", "SIGTERM twice", partial(twice, number=signal.SIGTERM)),
    Fault("signals", "SIGUSR1", partial(once, number=signal.SIGUSR1)),
    Fault("signals", "the terminal is closed (SIGHUP)", partial(once, number=signal.SIGHUP)),
)
