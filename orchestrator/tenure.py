"""Who is at a sweep: one command alone, or several that share it. The others say so, and leave.

    STORE/sweeps/NAME/.tenure       locked for as long as a command is at it; names the last that was alone

Nothing has to be cleaned up after a killed command: the system takes a lock back when its process ends. Whoever is
alone at a sweep takes back the licences of all attempts before (queue.py), so that what is left of an earlier command,
on whatever machine, commits nothing any more. In a bucket it is a lease (object_lock.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from analysis.errors import StoreError
from analysis.files import made, plainly
from analysis.places.object_lock import LEASE_S, Lock
from analysis.places.object_path import ObjectPath
from analysis.store import Store
from orchestrator.claims import beating
from orchestrator.errors import BadRequest

SHARERS = "commands that share it"
JOINS_S = 5.0  # the first of several that share is alone for a moment


@contextlib.contextmanager
def tenure(store: Store, *, sweep: str, is_shared: bool) -> Iterator[None]:
    """Be at a sweep, alone or with others that share it.

    Args:
        store: where it runs.
        sweep: its name.
        is_shared: let others in that share it, too.

    Raises:
        BadRequest: another command is at it that does not let this one in.
        StoreError: the store cannot be written.
    """
    if not isinstance(store.path, Path):
        with _afar(store, sweep=sweep, is_shared=is_shared):
            yield
        return
    path = made(store.sweep_dir(sweep)) / ".tenure"
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a+b"))
            until = time.monotonic() + (JOINS_S if is_shared else 0.0)
            while not _enter(file.fileno(), store, sweep=sweep, is_shared=is_shared):
                if time.monotonic() >= until:
                    file.seek(0)
                    raise BadRequest(_busy(sweep, file.read(200), is_shared=is_shared))
                time.sleep(0.05)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({plainly(error)})") from None
        yield


@contextlib.contextmanager
def _afar(store: Store, *, sweep: str, is_shared: bool) -> Iterator[None]:
    """The same in a bucket: a lease, which the sweep's next command has as soon as the last one ended or fell silent.

    Commands that share the sweep only look whether one is alone at it, and one that would be alone looks whether
    theirs are fresh.
    """
    folder = store.sweep_dir(sweep) / "tenure"
    assert isinstance(folder, ObjectPath)
    lock, until = Lock(folder), time.monotonic() + LEASE_S + 2.0
    try:
        while not lock.take():
            if time.monotonic() > until or lock.is_alive:
                raise BadRequest(_busy(sweep, lock.holder.encode(), is_shared=is_shared))
            time.sleep(0.5)
        if is_shared:
            lock.free()
            yield
            return
        if sharer := beating(store, sweep=sweep):
            lock.free()
            raise BadRequest(_busy(sweep, f"{SHARERS}, one of them {sharer},".encode(), is_shared=False))
        _clear(store, sweep)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({plainly(error)})") from None
    with lock.kept():
        yield


def _enter(file: int, store: Store, *, sweep: str, is_shared: bool) -> bool:
    is_alone = _take(file, fcntl.LOCK_EX)
    if is_alone:
        _clear(store, sweep)
        _sign(file, is_shared=is_shared)
    return _take(file, fcntl.LOCK_SH) if is_shared else is_alone


def _clear(store: Store, sweep: str) -> None:
    """Take back all licences and claims: nobody else is at the sweep."""
    with store.locked():
        store.drop_attempts(sweep)
        for path in (store.sweep_dir(sweep) / "claims").glob("*.json"):
            path.unlink(missing_ok=True)


def _take(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: int, *, is_shared: bool) -> None:
    many = f"{SHARERS}, first " if is_shared else ""
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(file, 0)
        os.write(file, f"{many}process {os.getpid()} on {socket.gethostname()}".encode())


def _busy(sweep: str, who: bytes, *, is_shared: bool) -> str:
    name = who.decode(errors="replace").strip() or "another command"
    way_out = "wait for it, or end it first" if is_shared else "wait for it, end it first, or run all with --share"
    return f"{sweep}: is being run by {name} already; {way_out}"
