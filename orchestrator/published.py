"""What a running sweep says of itself to other processes: its latest progress, in a small file of the store.

    STORE/sweeps/NAME/progress.json     there while `eureka run` trains the sweep; gone when it ends

The ledger knows what has ended, and nothing of pace, slots or time left: those the command itself knows. Where it
was killed, the file stays behind; `read` tells that by the process, or by the age of its last word.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.errors import StoreError
from analysis.files import read_json, write_json
from analysis.places.object_path import File
from analysis.store import Store
from orchestrator.progress import ProgressView, Snapshot

FILE = "progress.json"
EVERY_S, EVERY_S_AFAR = 1.0, 10.0  # between two writes, at least; into a bucket, where each costs time and money
SILENT_S = 120.0  # a sweep on another machine that has said nothing for so long is taken for lost


class PublishedView(ProgressView):
    """A progress view that also leaves its latest news in the store; nothing that goes wrong there stops a sweep.

    Args:
        title: the sweep.
        store_path: the store, which may be made later.
        quiet: show nothing here.
    """

    def __init__(self, title: str, *, store_path: str, quiet: bool = False):
        super().__init__(title, quiet=quiet)
        self._sweep, self._store_path = title, store_path
        self._path: File | None = None
        self._word: dict[str, Any] = {}
        self._written_at = float("-inf")

    def start(self, total: int, already: int, takes: str = "", *, asks: str = "") -> None:
        """Begin."""
        if total:
            who = {"pid": os.getpid(), "host": socket.gethostname(), "began_at": time.time()}
            self._word = {**who, "total": total, "takes": takes}
            self._path = Store(self._store_path).sweep_dir(self._sweep) / FILE
            self._write(Snapshot(waiting=total))
        super().start(total, already, takes, asks=asks)

    def update(self, snapshot: Snapshot) -> None:
        """Show the news, and leave them."""
        every_s = EVERY_S if self._path is None or isinstance(self._path, Path) else EVERY_S_AFAR
        if time.monotonic() - self._written_at >= every_s:
            self._write(snapshot)
        super().update(snapshot)

    def stop(self) -> None:
        """End; the ledger has the last word."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        super().stop()

    def _write(self, snapshot: Snapshot) -> None:
        if self._path is None:
            return
        self._written_at = time.monotonic()
        word = {**self._word, **asdict(snapshot), "at": time.time()}
        with contextlib.suppress(StoreError, OSError):
            write_json(self._path, word)


def read(folder: File) -> dict[str, Any] | None:
    """The latest word from a sweep's folder, with `is_lost` added; None where nobody trains it."""
    try:
        word = read_json(folder / FILE)
        return {**word, "is_lost": _is_lost(word)}
    except (OSError, StoreError, ValueError, KeyError, TypeError):
        return None


def _is_lost(word: Mapping[str, Any]) -> bool:
    """Whether the process that wrote it is gone; of another machine, whether it has been silent for long."""
    if word["host"] != socket.gethostname():
        return bool(time.time() - word["at"] > SILENT_S)
    try:
        os.kill(int(word["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is there, and somebody else's
        return False
    return False
