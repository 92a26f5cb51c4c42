"""One store that a sweep is run into while it is disturbed, fault after fault, until all its runs have their row."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from analysis.errors import StoreError
from tests.chaos.invariants import Undisturbed, leftovers, promises, safe_steps
from tests.chaos.page import FUSE, STRIKE
from tests.chaos.questions import QUESTIONS
from tests.chaos.smithy import Forge, Process, wait_until

LEASE_S = 0.6  # of a command that shares; a minute, where nobody is in a hurry
STEPS_AHEAD = 60  # a fault comes after so many further steps at most
CHECKS_EVERY = 4  # faults of a scene: the store's own check; at its end the doctor; the comparison always
EXPECTED_EXITS = (0, 1, 2, 130)
NOTED = ("problems", "recovery_s", "repeated_steps", "seconds")


class TooLateError(Exception):
    """The sweep was done before the fault came."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        family: the file it is in.
        kind: in words.
        strike: does it to a scene, and sees that what must be said was said; what is wrong with that, in words.
        shows: what the store's check says of it, as it should: these words are in the line.
        is_whole: it plays a scene of its own, from the beginning to its end.
        question: of its scene; any unless given.
        needs: why it cannot be had here; empty where it can.
    """

    family: str
    kind: str
    strike: Callable[[Scene, Random], list[str]]
    is_whole: bool = False
    question: str = ""
    shows: tuple[str, ...] = ()
    needs: Callable[[], str] = lambda: ""


@dataclass
class Suffered:
    """A fault and what it cost.

    Attributes:
        problems: what was wrong afterwards; none is what surviving is.
        recovery_s: from the fault's end until a step was trained again [s].
        repeated_steps: trained and lost [run-steps].
        seconds: it took, checks included [s].
    """

    fault: Fault
    problems: list[str] = field(default_factory=list)
    recovery_s: float | None = None
    repeated_steps: int = 0
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"family": self.fault.family, "kind": self.fault.kind} | {name: getattr(self, name) for name in NOTED}

    @classmethod
    def of(cls, fault: Fault, record: dict[str, Any]) -> Suffered:
        """What `record` wrote."""
        return cls(fault, **{name: record[name] for name in NOTED})


class Scene:
    """A store, the commands that run a sweep into it, and what they have trained.

    Args:
        folder: for the store; removed at the end.
        question: which sweep.
        calm: what its tables must be.
        forge: makes commands.
    """

    def __init__(self, folder: Path, *, question: str, calm: Undisturbed, forge: Forge):
        self.question, self.calm, self.forge = question, calm, forge
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.store = folder / "a store"
        self.address, self.environment = str(self.store), dict[str, str]()  # or those of a bucket
        self.sweep = forge.folder / f"{question}.yaml"
        self.sweep.write_text(QUESTIONS[question])
        self.held = contextlib.ExitStack()  # what a fault has set up for as long as the scene lasts
        self.processes: list[Process] = []
        self.repeated = 0
        self.recovery_s: float | None = None  # where a fault that is whole has timed it
        self.counted: int | None = None  # where it has counted what was repeated
        self.shows: set[str] = set()  # what the store's check says of damage that is still there
        self._looks = 0
        self.is_repaired = False  # by the doctor, as the command advised
        self.is_retried = False  # runs may have failed rows, which the end asks for again

    # -- commands ----------------------------------------------------------------------------

    def start(self, *more: str, is_shared: bool = False, fuse: int = 0, strike: int = 0) -> Process:
        """Begin the command; what it is to suffer can be laid into its cradle."""
        argv = ["run", str(self.sweep), "--store", self.address, "--launcher", "inline", "--width", "4"]
        argv += ["--device", "cpu", "--checkpoint-every", "0.1", "--no-report", "--quiet", *more]
        argv += ["--share"] if is_shared else ["--retry-failed"] * self.is_retried
        more_set = {"lease_s": LEASE_S, "environment": self.environment}
        process = self.forge.begin(argv, store=self.store, fuse=fuse, strike=strike, **more_set)
        self.processes.append(process)
        return process

    def running(self) -> Process:
        """The command that is at work; begun if there is none."""
        alive = [process for process in self.processes if not process.is_over]
        return alive[0] if alive else self.start()

    def victim(self, rng: Random, *, most: int = STEPS_AHEAD) -> Process:
        """A command under way, some steps on from where it is."""
        process = self.running()
        wanted = process.trained + rng.randint(1, most)
        wait_until(lambda: process.trained >= wanted or process.is_over, what="the sweep to get under way")
        self.on_time(process)
        return process

    def saved(self, rng: Random) -> Process:
        """A command under way that has saved states.

        Raises:
            TooLateError: it is done before it has.
        """
        process = self.victim(rng)
        there = lambda: any((self.store / "checkpoints").glob("*.npz"))  # noqa: E731
        wait_until(lambda: there() or process.is_over, what="states to be saved")
        self.on_time(process)
        return process

    def on_time(self, process: Process) -> None:
        """See that a command is still at it.

        Raises:
            TooLateError: it is done.
        """
        if process.is_over and process.exit == 0:
            raise TooLateError

    @property
    def trained(self) -> int:
        """By all commands so far [run-steps]."""
        return sum(process.trained for process in self.processes)

    # -- after a fault -----------------------------------------------------------------------

    def count_losses(self) -> int:
        """Steps that were trained, and are neither in the ledger nor saved; since the last time."""
        if any(not process.is_over for process in self.processes):
            return 0
        lost = max(0, self.trained - safe_steps(self.store) - self.repeated)
        self.repeated += lost
        return lost

    def recover(self) -> float:
        """Run the same command again where none is left; seconds until it trains, or finds nothing left to train.

        Raises:
            AssertionError: it ends otherwise.
        """
        began = time.monotonic()
        process = self.running()
        before = process.trained
        wait_until(lambda: process.trained > before or process.is_over, what="the command to go on")
        if process.exit == 2 and "eureka doctor" in process.said and not self.is_repaired:
            self.is_repaired = True
            doctor = self.forge.begin(["doctor", str(self.store), "--repair"], store=self.store)
            doctor.wait()
            assert not self.spoken(doctor), f"doctor --repair: exit {doctor.exit}: {doctor.said[-500:]}"
            return time.monotonic() - began + self.recover()
        assert not process.is_over or process.exit in {0, 1}, (
            f"exit {process.exit} when run again: {process.said[-500:]}"
        )
        self.is_repaired = False
        return time.monotonic() - began

    def spoken(self, process: Process) -> list[str]:
        """What is wrong with how a command ended: a traceback, or a code that says nothing."""
        said, found = process.said, []
        if "Traceback" in said:
            found.append(f"a traceback: {said.strip().splitlines()[-1]}")
        if process.is_over and process.exit is not None and process.exit >= 0 and process.exit not in EXPECTED_EXITS:
            found.append(f"exit {process.exit}")
        return found

    def look(self) -> list[str]:
        """What is wrong with the store as it is now, less what it should show of its faults."""
        if not (self.store / "eureka.json").exists():
            return []
        try:
            is_alive = any(not process.is_over for process in self.processes)
            found = self.calm.objections(self.store, is_done=False, is_alive=is_alive)
            self._looks += 1
            found += promises(self.store) if self._looks % CHECKS_EVERY == 0 and not is_alive else []
        except StoreError as error:
            found = [f"cannot be read: {error}"]
        return [problem for problem in found if not any(words in problem for words in self.shows)]

    def finish(self) -> list[str]:
        """Let the sweep come to its end, and hold everything against the undisturbed one."""
        if self.environment:  # in a bucket that is gone by now; the fault has done it
            return []
        try:
            alive = [process for process in self.processes if not process.is_over]
            codes = [process.wait() for process in alive]
            done = self.start()
            codes.append(done.wait())
            found = [f"exit {code} at the end: {done.said[-500:]}" for code in codes[-1:] if code != 0]
            for process in [*alive, done]:
                found += self.spoken(process)
            self.count_losses()
            if self.shows:  # what nobody can read any more stays until somebody says so
                self.forge.begin(["doctor", str(self.store), "--repair"], store=self.store).wait()
            doctor = self.forge.begin(["doctor", str(self.store), "--json"], store=self.store)
            if doctor.wait() != 0:
                found.append(f"doctor: exit {doctor.exit}: {doctor.said[-800:]}")
            found += self.calm.objections(self.store, is_done=True) + promises(self.store)
            return found + leftovers(self.store, sweep=self.question)
        except Exception as error:  # of a check, too: it must not fall over what it finds
            return [f"{type(error).__name__}: {error}"]

    def leave(self) -> None:
        """Kill what is left, and forget the store."""
        for process in self.processes:
            process.end()
        self.held.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)


def blow(process: Process, *, after: int, strike: int) -> None:
    """Have a running command struck at one of its next changes to the store."""
    process.page[STRIKE] = strike
    process.page[FUSE] = after
