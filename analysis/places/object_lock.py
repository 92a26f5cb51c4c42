"""A lock made of numbered objects, each put only where there is none: who put the last one has it.

    FOLDER/00000007.json    {"number": 7, "by": "…", "who": "process 12 on lab", "beat": 3, "is_free": false}

Nobody can be made to let go of an object, so a lock is a lease: a holder that has shown no new beat for `LEASE_S`, by
the clock of who watches it, or whose process is gone from this machine, has lost it to the one that puts the next
number. A holder that wakes up after that does not know. So nothing that must be right may rest on it: what joins the
ledger is decided by the log (`object_log.py`), and the lock only keeps commands out of each other's way.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from analysis.checksums import json_bytes, parse_json
from analysis.errors import StoreError
from analysis.places.object_path import ObjectPath

LEASE_S = 30.0
BEATS = 6  # in a lease
LOOKS_S = 0.2  # between two tries, on average
PATIENCE_S = 300.0


class Lock:
    """One lock, as one of its users sees it.

    Args:
        folder: where its objects lie; nothing else does.
        clock: monotonic seconds.
    """

    def __init__(self, folder: ObjectPath, *, clock: Callable[[], float] = time.monotonic):
        self._folder, self._clock = folder, clock
        self._own: dict[str, Any] = {}
        self._seen: tuple[object, float] = (None, 0.0)
        self.holder = ""  # who had it when it was last asked for
        self.is_alive = False  # it was seen to beat

    def take(self) -> bool:
        """Try to have it; False where somebody else has."""
        found = self._last()
        number = found["number"] + 1 if found else 0
        if found and not self._is_free(found):
            self.holder = str(found.get("who", "another process"))
            return False
        who = {
            "who": f"process {os.getpid()} on {socket.gethostname()}",
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        own = {"number": number, "by": uuid.uuid4().hex, "beat": 0, "is_free": False, **who}
        if not self._path(number).write_new(json_bytes(own)):
            return False
        numbers = self._numbers()
        if max(numbers) > number:  # it was ours only because that number had been cleared away
            self._path(number).unlink()
            return False
        for old in numbers:
            if old < number:
                self._path(old).unlink()
        self._own = own
        return True

    def beat(self) -> bool:
        """Show that the holder lives; False where it has lost the lock."""
        if not self._own or self._path(self._own["number"] + 1).exists():
            return False
        self._own["beat"] += 1
        self._path(self._own["number"]).write_bytes(json_bytes(self._own))
        return True

    def free(self) -> None:
        """Let go."""
        if self._own:
            self._path(self._own["number"]).write_bytes(json_bytes({**self._own, "is_free": True}))
            self._own = {}

    @contextlib.contextmanager
    def held(self, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Wait for it, hold it for a moment, let go.

        Raises:
            StoreError: another has it, and keeps it.
        """
        jitter, until = random.SystemRandom(), self._clock() + patience_s
        while not self.take():
            if self._clock() > until:
                way_out = "if it hangs, end it, and run the same command again"
                raise StoreError(f"{self._folder}: locked for {patience_s:.0f} s by {self.holder}; {way_out}")
            time.sleep(jitter.uniform(0.5, 1.5) * LOOKS_S)
        try:
            yield
        finally:
            self.free()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Having taken it, keep it for long: a thread beats."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(LEASE_S / BEATS):
                with contextlib.suppress(OSError):
                    self.beat()

        thread = threading.Thread(target=beat, name="lock-beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(OSError):  # a bucket that is away: the lease runs out
                self.free()

    def _is_free(self, found: dict[str, Any]) -> bool:
        if found.get("is_free") is True or _is_gone(found):
            return True
        state = (found["number"], found.get("beat"), found.get("by"))
        if self._seen[0] != state:
            self.is_alive = self._seen[0] is not None
            self._seen = (state, self._clock())
        return self._clock() - self._seen[1] > LEASE_S

    def _last(self) -> dict[str, Any] | None:
        numbers = self._numbers()
        if not numbers:
            return None
        try:
            found = parse_json(self._path(max(numbers)).read_bytes())[0]
        except (
            FileNotFoundError,
            ValueError,
        ):  # cleared away just now, or damaged: as if held, until the lease is over
            found = {}
        return {**found, "number": max(numbers)}

    def _numbers(self) -> list[int]:
        return [int(one.key[:8]) for one in self._folder.below() if one.key[:8].isdecimal()]

    def _path(self, number: int) -> ObjectPath:
        return self._folder / f"{number:08d}.json"


def _is_gone(found: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine, and has ended."""
    if found.get("host") != socket.gethostname() or type(found.get("pid")) is not int:
        return False
    try:
        os.kill(found["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
