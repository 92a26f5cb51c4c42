"""Ray begins in the background while a sweep is still being planned: to import and start it takes seconds."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

from orchestrator.errors import OrchestratorError
from orchestrator.stopping import keeps_hearing


class EarlyRay:
    """A context in which Ray comes up by itself; it leaves as it came.

    Args:
        workers: processes on this machine.
        is_wanted: begin at all.
    """

    def __init__(self, workers: int, *, is_wanted: bool):
        self._workers, self._is_wanted, self._is_own = workers, is_wanted, False
        self._is_tried, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="early-ray", daemon=True)

    def __enter__(self) -> EarlyRay:
        if self._is_wanted:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait()
        if self._is_own:
            from orchestrator.tune import disconnect

            disconnect()
        self._is_over.set()

    def wait(self) -> None:
        """Until it is up, or could not be started: then the launcher tries, and says why."""
        if self._is_wanted:
            with keeps_hearing():
                self._is_tried.wait()

    def _keep(self) -> None:
        """Start it and stay: Linux ends Ray's processes with the thread that began them, not with its process."""
        try:
            with contextlib.suppress(OrchestratorError):
                from orchestrator.tune import connect

                self._is_own = connect(self._workers)
        finally:
            self._is_tried.set()
        self._is_over.wait()
