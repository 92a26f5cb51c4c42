"""Trains cohorts one after another in this process: for tests, a debugger, or a machine without Ray."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.pulse import Pulse
from orchestrator.queue import CohortQueue
from orchestrator.worker import CohortWorker, pulse_or_error

WAIT_S = 0.25  # for a search that has nothing to train yet; an interrupt is heard in between


def train_inline(queue: CohortQueue, *, on_pulse: Callable[[Pulse], None]) -> None:
    """Work through the queue; an interrupt first commits what ended and saves the rest.

    An interrupt waits for the pulse's end, since in the middle of a step there is no state that could be
    saved; a second one does not wait, and costs what was trained since the last save.
    """
    while not queue.is_over:
        if (cohort := queue.take(wait_s=WAIT_S)) is None:
            continue  # a search is thinking
        worker = CohortWorker(store=queue.store, sweep=queue.sweep, cohort=cohort)
        queue.begin(cohort)
        over = False
        while not over:
            with first_interrupt_waits() as interrupted:
                pulse = pulse_or_error(worker)
            try:
                queue.hear(pulse)
                on_pulse(pulse)
                if interrupted.is_set():
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                worker.close()
                raise
            over = pulse.over


@contextmanager
def first_interrupt_waits() -> Iterator[threading.Event]:
    """Within, the first SIGINT only sets the event; the second is a KeyboardInterrupt."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals reach the main thread alone
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
