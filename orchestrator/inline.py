"""Trains cohorts one after another in this process: for tests, a debugger, or a machine without Ray."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.queue import CohortQueue
from orchestrator.worker import CohortWorker, Pulse, pulse_or_error


def train_inline(queue: CohortQueue, *, on_pulse: Callable[[Pulse], None]) -> None:
    """Work through the queue; an interrupt first commits what ended and saves the rest."""
    while (cohort := queue.take()) is not None:
        worker = CohortWorker(store=str(queue.store.path), sweep=queue.sweep, cohort=cohort)
        try:
            over = False
            while not over:
                pulse = pulse_or_error(worker)
                queue.hear(pulse)
                on_pulse(pulse)
                over = pulse.over
        except KeyboardInterrupt:
            worker.close()
            raise
