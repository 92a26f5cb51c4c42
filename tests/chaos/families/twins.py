"""Two commands on one sweep: those that share do, of the others one says who is at it."""

from __future__ import annotations

import time
from random import Random

from tests.chaos.scene import Fault, Scene
from tests.chaos.smithy import Process, wait_until


def two_that_do_not_share(scene: Scene, rng: Random) -> list[str]:
    first = scene.victim(rng, most=40)
    second = scene.start()
    return _refused(scene, second, first)


def beside_one_that_is_alone(scene: Scene, rng: Random) -> list[str]:
    first = scene.victim(rng, most=40)
    second = scene.start(is_shared=True)
    return _refused(scene, second, first)


def several_that_share(scene: Scene, rng: Random) -> list[str]:
    several = []
    for _ in range(rng.randint(2, 3)):
        several.append(scene.start(is_shared=True))
        time.sleep(rng.uniform(0.0, 0.3))
    codes = [one.wait() for one in several]
    found = [f"exits {codes}"] if any(codes) else []
    return found + [problem for one in several for problem in scene.spoken(one)]


def beside_one_that_shares(scene: Scene, rng: Random) -> list[str]:
    first = scene.start(is_shared=True)
    wait_until(lambda: first.trained or first.is_over, what="the first to get under way")
    second = scene.start()
    found = _refused(scene, second, first)
    first.wait()
    return found + scene.spoken(first)


def _refused(scene: Scene, second: Process, first: Process) -> list[str]:
    code = second.wait()
    if first.is_over:  # and so made way
        return scene.spoken(second)
    found = scene.spoken(second)
    if code != 2 or str(first.pid) not in second.said:
        found.append(f"the second command was let in, or does not say who is at it: exit {code}: {second.said[-300:]}")
    return found


FAULTS = (
    Fault("two commands", "that do not share", two_that_do_not_share),
    Fault("two commands", "the second shares, the first does not", beside_one_that_is_alone),
    Fault("two commands", "the first shares, the second does not", beside_one_that_shares, is_whole=True),
    Fault("two commands", "or three, that share", several_that_share, is_whole=True),
)
