"""Stops a sweep from outside as Ctrl-C would, once: by a scheduler's signal, or when its time is spent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Why a sweep was asked to stop; empty while nobody asked."""

    why = ""


@contextmanager
def stops_early(*, hours: float | None = None) -> Iterator[Stop]:
    """Within, SIGTERM, SIGUSR1 and the end of the time are one first Ctrl-C; what comes after it is ignored.

    A shell in the background hands its children an ignored SIGINT, so Python's own handler is set, too.

    Args:
        hours: of wall time; None is no limit [h].
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return

    def ask(why: str) -> None:
        if not stop.why:
            stop.why = why
            os.kill(os.getpid(), signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        ask(f"asked to stop by {signal.Signals(number).name}")

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = (
        threading.Timer(3600.0 * hours, ask, [f"stopped after {hours:.3g} h, as --max-hours says"]) if hours else None
    )
    try:
        if timer:
            timer.daemon = True
            timer.start()
        yield stop
    finally:
        if timer:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
