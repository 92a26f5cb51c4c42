"""The store's lock: waited for with patience that ends, and whoever holds it says who it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from analysis.errors import StoreError

PATIENCE_S = 300.0  # a commit holds the lock for milliseconds, a merge of a large store for a minute
LOOKS_S = 0.02  # between two tries, on average


@contextlib.contextmanager
def held(path: Path, *, patience_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Hold a lock file, which the system takes back when the process ends, however it does.

    A process that is stopped keeps what it holds. Its lock cannot be broken without risk, so nobody does: whoever has
    waited too long gives up, and says who has it.

    Args:
        path: of the lock file; made if need be.
        patience_s: how long another may have it; `PATIENCE_S` unless given [s].
        clock: monotonic seconds.

    Raises:
        StoreError: another process has it, and keeps it.
        OSError: the file system gives no locks.
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    with path.open("a+b") as handle:
        until = clock() + patience_s
        while not _is_taken(handle.fileno()):
            if clock() > until:
                handle.seek(0)
                who = handle.read(200).decode(errors="replace").strip() or "another process"
                way_out = "if it hangs, end it, and run the same command again"
                raise StoreError(f"{path.parent}: locked for {patience_s:.0f} s by {who}; {way_out}")
            time.sleep(random.uniform(0.5, 1.5) * LOOKS_S)
        with contextlib.suppress(OSError):  # a full disk
            os.ftruncate(handle.fileno(), 0)
            os.write(handle.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def is_held(path: Path) -> bool:
    """Whether somebody has a lock file just now."""
    with contextlib.suppress(OSError), path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
