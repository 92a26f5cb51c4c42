"""One writer a search, and a whole journal: what a killed driver leaves is settled before the next one writes."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from analysis.appended import check_appended
from analysis.errors import StoreError
from orchestrator.errors import BadRequest

STALE_LOCK_S = 2.0  # a journal is locked for milliseconds; an older lock is that of a killed process [s]


def locked(folder: Path) -> int:
    """The sweep's search lock.

    Raises:
        BadRequest: another process holds it.
    """
    handle = os.open(folder / "study.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        who = os.pread(handle, 100, 0).decode(errors="replace").strip() or "another process"
        os.close(handle)
        way_out = "wait for it, or end it first"
        raise BadRequest(f"{folder.name}: its search is driven by {who} already; {way_out}") from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
    return handle


def mend_journal(path: Path) -> None:
    """Cut off a line that a killed writer left half-written, and its lock; the caller is the only writer.

    Raises:
        BadRequest: what was written before is damaged.
    """
    try:
        check_appended(path)
    except StoreError as error:
        way_out = "`eureka doctor --repair` sets it aside, and the search begins again with what the ledger has"
        raise BadRequest(f"{error}; {way_out}") from None
    lock = path.with_name(f"{path.name}.lock")
    until = time.monotonic() + STALE_LOCK_S
    while lock.is_symlink() and time.monotonic() < until:
        time.sleep(0.05)
    lock.unlink(missing_ok=True)
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
