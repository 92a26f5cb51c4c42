"""A page of memory that the bench shares with a process under test, which counts there, and is told what to suffer.

0 trained     run-steps that the process has trained
1 fuse        changes to the store that it may still make before it is struck; 0 is never
2 strike      what strikes it then: KILL, STOP, or -errno for an error of the file system
3 strikes     how many changes after the first are struck, too
4 offset_ns   by how much its wall clock is wrong [ns]
5 ready       1 as soon as the process is about to begin
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

TRAINED, FUSE, STRIKE, STRIKES, OFFSET_NS, READY = range(6)
KILL, STOP = 1, 2
SIZE = 4096


class Page:
    """The numbers above, in a file that both sides map."""

    def __init__(self, path: Path):
        if not path.exists():
            path.write_bytes(bytes(SIZE))
        self.path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), SIZE)

    def __getitem__(self, at: int) -> int:
        return struct.unpack_from("<q", self._memory, 8 * at)[0]

    def __setitem__(self, at: int, value: int) -> None:
        struct.pack_into("<q", self._memory, 8 * at, value)
