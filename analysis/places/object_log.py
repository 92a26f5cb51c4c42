"""Which blocks of a bucket count: a log of numbered entries, each put only where there is none.

    STORE/log/00000012.json    {"number": 12, "join": [BLOCK], "leave": [BLOCK, …], "by": "…"}

Entry 12 is written by who has read entry 11 and everything before: that the number is free still means that nobody
came first. So an entry is a commit, and needs no lock that could be lost. Entries stay for ever, or a writer that slept
would find the number of one that was removed free. Every 32nd also lists all blocks, so that nobody reads more than 32.
"""

from __future__ import annotations

import uuid
from typing import Any

from analysis.checksums import Damaged, json_bytes, parse_json
from analysis.errors import StoreError
from analysis.places.object_path import ObjectPath, at_once
from analysis.records import is_name

WHOLE_EVERY = 32


class Log:
    """The log of one store, as far as this process has read it.

    Args:
        folder: where the entries lie.
    """

    def __init__(self, folder: ObjectPath):
        self._folder = folder
        self.number = -1
        self.blocks: set[str] = set()

    def begin(self) -> bool:
        """Put the first entry; False where the gateway would let a second one replace it.

        Raises:
            OSError: it cannot be put.
        """
        self._path(0).write_new(self._entry(0, join=[], leave=[]))
        return not self._path(0).write_new(self._entry(0, join=[], leave=[]))

    def refresh(self) -> None:
        """Read what is new.

        Raises:
            StoreError, OSError: an entry is damaged, or cannot be read.
        """
        if self.number < 0:
            self._open()
        while True:
            try:
                self._take(self._read(self.number + 1))
            except FileNotFoundError:
                return

    def append(self, *, join: list[str], leave: list[str]) -> bool:
        """Add an entry behind those that were read; False where somebody else has.

        Raises:
            OSError: it is not known whether it was added; `refresh` will tell.
        """
        data = self._entry(self.number + 1, join=join, leave=leave)
        if not self._path(self.number + 1).write_new(data):
            return False
        self._take(parse_json(data)[0])
        return True

    def _open(self) -> None:
        """From the last entry that lists all blocks."""
        numbers = [int(one.key[:8]) for one in self._folder.below() if one.key[:8].isdecimal()]
        if not numbers:
            return
        first = max(numbers) // WHOLE_EVERY * WHOLE_EVERY
        found: dict[str, dict[str, Any]] = {}

        def read(path: ObjectPath) -> None:
            found[path.name] = self._checked(path)

        at_once(read, [self._path(number) for number in range(first, max(numbers) + 1)])
        entries = [found[name] for name in sorted(found)]
        self.blocks = set(entries[0]["blocks"])
        for entry in entries:
            self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        self.blocks = (self.blocks | set(entry["join"])) - set(entry["leave"])
        self.number = entry["number"]

    def _read(self, number: int) -> dict[str, Any]:
        return self._checked(self._path(number))

    def _checked(self, path: ObjectPath) -> dict[str, Any]:
        try:
            entry, _ = parse_json(path.read_bytes())
        except (Damaged, ValueError) as error:
            raise StoreError(f"{path}: not readable ({error}); restore it: it says which runs count") from None
        lists = [entry.get(key, []) for key in ("join", "leave", "blocks")]
        is_list = all(isinstance(names, list) and all(map(is_name, names)) for names in lists)
        number = int(path.stem)
        lacks_blocks = number % WHOLE_EVERY == 0 and "blocks" not in entry
        if not is_list or entry.get("number") != number or lacks_blocks:
            raise StoreError(f"{path}: not an entry of a store's log; expected number, join and leave")
        return {"join": [], "leave": [], **entry}

    def _entry(self, number: int, *, join: list[str], leave: list[str]) -> bytes:
        entry: dict[str, Any] = {"number": number, "join": join, "leave": leave, "by": uuid.uuid4().hex}
        if number % WHOLE_EVERY == 0:
            entry["blocks"] = sorted((self.blocks | set(join)) - set(leave))
        return json_bytes(entry)

    def _path(self, number: int) -> ObjectPath:
        return self._folder / f"{number:08d}.json"
