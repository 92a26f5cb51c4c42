"""Signals of schedulers, and the end of the time, are one Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from orchestrator.stopping import stops_early


@pytest.fixture(autouse=True)
def _pythons_own_ctrl_c() -> Iterator[None]:
    """Whatever a test before this one in the process made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send_and_wait(number: int | None = None) -> None:
    if number is not None:
        os.kill(os.getpid(), number)
    time.sleep(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_schedulers_signal_interrupts_and_says_so(number: int) -> None:
    with stops_early() as stop, pytest.raises(KeyboardInterrupt):
        send_and_wait(number)
    assert stop.why == f"asked to stop by {signal.Signals(number).name}"


def test_a_second_signal_does_not_disturb_the_leaving() -> None:
    with stops_early() as stop:
        with pytest.raises(KeyboardInterrupt):
            send_and_wait(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert stop.why.endswith("SIGUSR1")


def test_the_end_of_the_time_interrupts() -> None:
    with stops_early(hours=0.05 / 3600) as stop, pytest.raises(KeyboardInterrupt):
        send_and_wait()
    assert "--max-hours" in stop.why


def test_an_ignored_interrupt_is_heard_again() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stops_early(), pytest.raises(KeyboardInterrupt):
            send_and_wait(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with stops_early(hours=1.0):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
