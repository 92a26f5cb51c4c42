"""Runs a seeded schedule of faults, one after another, each followed by its checks; remembers how far it came."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.chaos.families.disks import mounted
from tests.chaos.invariants import Undisturbed
from tests.chaos.questions import ANY
from tests.chaos.scene import Fault, Scene, Suffered, TooLateError
from tests.chaos.smithy import Forge

FAULTS_A_SCENE = 16  # then the sweep may come to its end, and everything is compared
TRIES = 4  # of a fault that comes too late


def schedule(faults: Sequence[Fault], *, n: int, seed: int) -> list[Fault]:
    """Every kind as often as every other, shuffled."""
    rng = Random(seed)
    drawn: list[Fault] = []
    while len(drawn) < n:
        hand = list(faults)
        rng.shuffle(hand)
        drawn += hand
    return drawn[:n]


class Bench:
    """Suffers one fault after another, scene after scene.

    Args:
        forge: makes commands.
        disk: where stores are.
        seed: of everything that is drawn.
        amend: told where the end of a scene brings something to light.
    """

    def __init__(self, forge: Forge, disk: Path, *, seed: int, amend: Callable[[Suffered], None] = lambda one: None):
        self.forge, self.disk, self.seed, self._amend = forge, disk, seed, amend
        self.calm: dict[str, Undisturbed] = {}
        self._scene: Scene | None = None
        self._suffered: list[Suffered] = []  # in the present scene
        self._scenes = 0

    def suffer(self, at: int, one: Suffered) -> None:
        """One fault: done, looked at, recovered from."""
        fault, began = one.fault, time.monotonic()
        for attempt in range(TRIES):
            rng = Random(f"{self.seed}/{at}/{attempt}")
            if self._scene is None or fault.is_whole or len(self._suffered) >= FAULTS_A_SCENE:
                self.end_scene()
                self._scene = self._new_scene(fault.question or rng.choice(ANY))
            self._suffered.append(one)
            try:
                self._suffer(self._scene, one, rng)
            except TooLateError:
                self._suffered.remove(one)
                self.end_scene()
                continue
            except Exception as error:  # a hang, a refusal; of a check, too: it must not fall over what it finds
                one.problems.append(f"{type(error).__name__}: {error}")
            if fault.is_whole or one.problems:
                self.end_scene()
            break
        else:
            one.problems.append(f"came too late {TRIES} times")
        one.seconds = time.monotonic() - began

    def _suffer(self, scene: Scene, one: Suffered, rng: Random) -> None:
        one.problems += one.fault.strike(scene, rng)
        scene.shows |= set(one.fault.shows)
        one.problems += scene.look()
        one.repeated_steps += scene.count_losses() if scene.counted is None else scene.counted
        one.recovery_s = scene.recover() if scene.recovery_s is None else scene.recovery_s

    def end_scene(self) -> None:
        """Let the sweep finish; what is wrong then is charged to the scene's last fault."""
        scene, self._scene = self._scene, None
        if scene is None:
            return
        if self._suffered and not self._suffered[-1].problems:
            last = self._suffered[-1]
            before = scene.repeated
            last.problems += scene.finish()
            last.repeated_steps += scene.repeated - before
            if last.problems:
                self._amend(last)
        self._suffered = []
        scene.leave()

    def undisturbed(self, question: str) -> Undisturbed:
        """A sweep's tables where nothing happens."""
        if question not in self.calm:
            scene = Scene(self.disk / f"calm-{question}", question=question, calm=None, forge=self.forge)
            assert scene.start().wait() == 0, scene.processes[0].said
            self.calm[question] = Undisturbed(scene.store)
            scene.leave()
        return self.calm[question]

    def _new_scene(self, question: str) -> Scene:
        self._scenes += 1
        calm = self.undisturbed(question)
        return Scene(self.disk / f"scene-{self._scenes}", question=question, calm=calm, forge=self.forge)


@contextmanager
def bench(*, seed: int, amend: Callable[[Suffered], None] = lambda one: None) -> Iterator[Bench]:
    """A bench with a disk of its own, which is gone afterwards."""
    own = Path(tempfile.mkdtemp(prefix="eureka-chaos-", dir=_quick_disk()))
    disk = own / "disk"
    is_mounted = mounted(disk)
    try:
        with Forge(own) as forge:
            made = Bench(forge, disk, seed=seed, amend=amend)
            yield made
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", disk], check=False)
        shutil.rmtree(own, ignore_errors=True)


def _quick_disk() -> str | None:
    """Memory, where there is some: kills lose no page that was written."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run(
    faults: Sequence[Fault], *, seed: int, notes: Path | None = None, tell: Callable[[int, Suffered], None]
) -> list[Suffered]:
    """Suffer a schedule; what a run before this one came to is taken from its notes.

    Args:
        faults: in order.
        seed: of everything that is drawn.
        notes: JSON lines, the last of a fault counts; None keeps none.
        tell: told of each, again where it turns out otherwise.
    """
    results = _noted(faults, notes)
    for at, one in results.items():
        tell(at, one)

    def say(one: Suffered) -> None:
        at = next(at for at, other in results.items() if other is one)
        if notes:
            with notes.open("a") as file:
                file.write(json.dumps({"at": at, **one.record()}) + "\n")
        tell(at, one)

    with bench(seed=seed, amend=say) as made:
        for at, fault in enumerate(faults):
            if at not in results:
                results[at] = Suffered(fault)
                made.suffer(at, results[at])
                say(results[at])
        made.end_scene()
    return [results[at] for at in range(len(faults))]


def _noted(faults: Sequence[Fault], notes: Path | None) -> dict[int, Suffered]:
    lines = notes.read_text().splitlines() if notes and notes.exists() else []
    last = {line["at"]: line for line in map(json.loads, lines)}
    of_another = [at for at, one in last.items() if (one["family"], one["kind"]) != _name(faults, at)]
    if of_another:
        raise SystemExit(f"{notes}: is of another schedule; give its --faults, --dear and --seed, or another file")
    return {at: Suffered.of(fault, last[at]) for at, fault in enumerate(faults) if at in last}


def _name(faults: Sequence[Fault], at: int) -> tuple[str, str]:
    return (faults[at].family, faults[at].kind) if at < len(faults) else ("", "")
