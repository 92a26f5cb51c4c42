"""Who trains which runs, where several commands share a sweep: a file of claims for each, kept fresh while it lives.

    STORE/sweeps/NAME/claims/OWNER.json      {"beat": 17, "token": "a1b2c3", "runs": [run_id, …]}

Claims save work: the ledger takes a run once, whoever brings it, and nothing here is waited for. An owner counts its
beats up; whoever has watched a count stand still for the lease, by its own clock, takes the runs over, and takes back
the licences of what the silent one had begun (queue.py). No two machines' clocks are compared. An owner that was only
stopped finds its claim gone, and claims anew: all that says who holds what is read and written with the store locked.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from types import TracebackType

from analysis.errors import StoreError
from analysis.files import made, read_json, stamp_of, write_json
from analysis.places.object_path import File
from analysis.store import Store

LEASE_S = 60.0
BEATS = 6  # in a lease
_TOKEN = re.compile(r"[0-9a-f]+")


class Claims:
    """The claims of one sweep, seen by one of its owners; a context, in which it keeps its own fresh.

    Args:
        store: where the sweep runs.
        sweep: its name.
        owner: of this command; the same after a restart, where that is known, so that it takes up its own at once.
        lease_s: how long a claim holds without a beat [s].
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        sweep: str,
        owner: str | None = None,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._store, self._lease_s, self._clock = store, lease_s, clock
        self._sweep, self._folder = sweep, store.sweep_dir(sweep) / "claims"
        self.owner, self.token = owner or owner_name(), uuid.uuid4().hex[:6]
        self._own, self._beat = list[str](), 0
        self._seen: dict[str, tuple[int, float]] = {}  # owner -> (beat, when it was first seen at it)
        self._ended, self._guard = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)

    def __enter__(self) -> Claims:
        with self._store.locked():
            made(self._folder)
            if before := self._token_there():  # of the same task, before it was queued again
                self._store.drop_attempts(self._sweep, token=before)
            self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # a store that is away: the claim runs out by itself
            self._path(self.owner).unlink(missing_ok=True)

    def take(self, choose: Callable[[set[str], int], Sequence[str]]) -> list[str]:
        """Claim more runs; nobody else claims meanwhile.

        Args:
            choose: given the runs that others hold and how many commands are at work, which to take.
        """
        with self._store.locked():
            held, others = self._others()
            with self._guard:
                self._own = self._still_held()
            taken = list(choose(held, others + 1))
            with self._guard:
                self._own += taken
            self._write()
        return taken

    def holds(self, runs: Collection[str]) -> bool:
        """Whether nobody took this owner for dead, and its runs away; the caller holds the lock."""
        with self._guard:
            return set(runs) <= set(self._still_held())

    def keep_only(self, runs: Callable[[str], bool]) -> None:
        """Give back what need not be held any more."""
        with self._guard:
            self._own = [run for run in self._own if runs(run)]

    def beat(self) -> None:
        """Show that this owner lives, if nobody has taken it for dead yet."""
        with self._store.locked():
            if self._is_there():
                self._write()

    def _write(self) -> None:
        """The caller holds the lock."""
        with self._guard:
            self._beat += 1
            record = {"beat": self._beat, "token": self.token, "runs": self._own}
            write_json(self._path(self.owner), record)

    def _still_held(self) -> list[str]:
        """Its runs; none once its claim was removed. The caller holds the lock."""
        return self._own if self._is_there() else []

    def _is_there(self) -> bool:
        return self._token_there() == self.token

    def _token_there(self) -> str:
        try:
            token = str(read_json(self._path(self.owner)).get("token", ""))
            return token if _TOKEN.fullmatch(token) else ""
        except FileNotFoundError:
            return ""
        except StoreError:  # damaged: it can only have been its own
            return self.token

    def _others(self) -> tuple[set[str], int]:
        """Runs that living others hold, and how many others live; the files of dead ones are removed."""
        held, living = set[str](), 0
        for path in self._folder.glob("*.json"):
            owner = path.stem
            if owner == self.owner:
                continue
            try:
                record = read_json(path)
                beat, runs, token = int(record["beat"]), [str(run) for run in record["runs"]], str(record["token"])
                if not _TOKEN.fullmatch(token):
                    raise ValueError(token)  # it becomes a part of a pattern of files that are removed
            except FileNotFoundError:
                continue
            except (StoreError, ValueError, KeyError, TypeError, OverflowError):
                beat, runs, token = -1, [], "-"  # damaged: nobody's
            if owner not in self._seen or self._seen[owner][0] != beat:
                self._seen[owner] = (beat, self._clock())
            elif self._clock() - self._seen[owner][1] > self._lease_s:
                path.unlink(missing_ok=True)
                self._store.drop_attempts(self._sweep, token=token)
                continue
            held.update(runs)
            living += 1
        return held, living

    def _keep_beating(self) -> None:
        while not self._ended.wait(self._lease_s / BEATS):
            with contextlib.suppress(OSError, StoreError):  # a store that is away for a while costs the claim, no more
                self.beat()

    def _path(self, owner: str) -> File:
        return self._folder / f"{owner}.json"


def beating(store: Store, *, sweep: str, lease_s: float | None = None) -> str:
    """One whose claim is kept fresh; empty where nobody's is, which takes two beats of watching if there is any.

    Args:
        store: where the sweep runs.
        sweep: its name.
        lease_s: of the claims; `LEASE_S` unless given [s].
    """
    beat_s = (lease_s or LEASE_S) / BEATS
    folder, until = store.sweep_dir(sweep) / "claims", time.monotonic() + 2 * beat_s
    before = {path: stamp_of(path) for path in folder.glob("*.json")}
    while before and time.monotonic() < until:
        time.sleep(beat_s / 4)
        for path in folder.glob("*.json"):
            if stamp_of(path) != before.get(path):
                return path.stem
    return ""


def owner_name() -> str:
    """The scheduler's name of this task, which survives being queued again; else one that nobody has had."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if job and task:
        return f"slurm-{job}-{task}"
    host = re.sub(r"[^\w-]", "-", socket.gethostname())
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
