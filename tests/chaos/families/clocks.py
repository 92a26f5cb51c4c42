"""The wall clock jumps, forwards and back, while a command trains."""

from __future__ import annotations

import time
from functools import partial
from random import Random

from tests.chaos.page import OFFSET_NS
from tests.chaos.scene import Fault, Scene

HOUR_S, YEAR_S = 3600.0, 365.25 * 86400.0
WRONG_S = 0.5  # long enough for states to be saved, and runs committed


def jump(scene: Scene, rng: Random, *, by_s: float) -> list[str]:
    victim = scene.victim(rng, most=60)
    victim.page[OFFSET_NS] = int(by_s * 1e9)
    until = time.monotonic() + WRONG_S
    while time.monotonic() < until and not victim.is_over:
        time.sleep(0.01)
    victim.page[OFFSET_NS] = 0  # the second jump
    return scene.spoken(victim)


def to_1970(scene: Scene, rng: Random) -> list[str]:
    return jump(scene, rng, by_s=86400.0 - time.time())


def swing(scene: Scene, rng: Random) -> list[str]:
    victim = scene.victim(rng, most=60)
    for _ in range(10):
        victim.page[OFFSET_NS] = int(rng.uniform(-2 * HOUR_S, 2 * HOUR_S) * 1e9)
        time.sleep(0.05)
    victim.page[OFFSET_NS] = 0
    return scene.spoken(victim)


def _no_compiler() -> str:
    import shutil

    return "" if shutil.which("cc") or shutil.which("gcc") else "needs a C compiler"


FAULTS = (
    Fault("clock jumps", "an hour ahead", partial(jump, by_s=HOUR_S), needs=_no_compiler),
    Fault("clock jumps", "an hour back", partial(jump, by_s=-HOUR_S), needs=_no_compiler),
    Fault("clock jumps", "ten years ahead", partial(jump, by_s=10 * YEAR_S), needs=_no_compiler),
    Fault("clock jumps", "to 1970", to_1970, needs=_no_compiler),
    Fault("clock jumps", "to and fro", swing, needs=_no_compiler),
)
