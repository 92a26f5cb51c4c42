"""Views of a sweep that do something."""

from __future__ import annotations

from orchestrator.progress import Snapshot


class Interrupting:
    """A view that presses Ctrl-C once, at the first news."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def note(self, text: str) -> None:
        pass

    def start(self, total: int, already: int, takes: str = "", *, asks: str = "") -> None:
        self.total = (total, already)

    def update(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        if len(self.snapshots) == 1:
            raise KeyboardInterrupt

    def stop(self) -> None:
        pass
