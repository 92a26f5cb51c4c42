"""Stops a sweep from outside as Ctrl-C would, once: by a scheduler's signal, a provider's notice, or its time's end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from orchestrator.notices import watched

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Why a sweep was asked to stop; empty while nobody asked."""

    why = ""


@contextmanager
def stops_early(*, hours: float | None = None, notices: str = "") -> Iterator[Stop]:
    """Within, SIGTERM, SIGUSR1, a notice and the end of the time are one first Ctrl-C; what follows it is ignored.

    A shell in the background hands its children an ignored SIGINT, so Python's own handler is set, too.

    Args:
        hours: of wall time; None is no limit [h].
        notices: whose metadata server tells that this machine is taken away (`notices.py`); empty is nobody's.

    Raises:
        BadRequest: no such provider.
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
        with ExitStack() as watching:
            if notices:
                tell = watched(notices, on_notice=lambda said: ask(f"this machine is taken away ({said})"))
                watching.enter_context(tell)
            yield stop
    finally:
        if timer:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def keeps_hearing() -> Iterator[None]:
    """Keep the handlers of signals while Ray starts: it takes SIGTERM to itself, and answers it with a stack trace."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:
                    signal.signal(number, handler)
