"""How a running sweep looks: a live panel on a terminal, a line now and then elsewhere, or nothing.

All of it goes to stderr; stdout belongs to results.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from orchestrator.plan import Duration


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Where a sweep stands.

    Attributes:
        done: runs committed by this command, finished or diverged [runs].
        running: runs in slots [runs].
        waiting: runs that have not begun [runs].
        events: runs in which the online rule has seen the event [runs].
        diverged: committed runs that diverged [runs].
        failed: runs recorded as failed, besides those done [runs].
        run_steps_done: by this command, unfinished runs included [run-steps].
        run_steps_total_estimate: until all is done, as expected [run-steps].
        run_steps_per_s: lately [run-steps/s].
        seconds_left: as expected; None while unknown [s].
        note: anything else, in a few words.
        total: runs to train, where that grows while they are trained; 0 is as it was at the start [runs].
        trials: of a search, told so far and at most; empty elsewhere.
    """

    done: int = 0
    running: int = 0
    waiting: int = 0
    events: int = 0
    diverged: int = 0
    failed: int = 0
    run_steps_done: int = 0
    run_steps_total_estimate: int = 0
    run_steps_per_s: float = 0.0
    seconds_left: float | None = None
    note: str = ""
    total: int = 0
    trials: str = ""

    @property
    def ended(self) -> int:
        """Runs that have their row, whatever it says."""
        return self.done + self.failed


class ProgressView:
    """Shows snapshots; `start` once, `update` as often as there is news, `stop` always.

    Args:
        title: the sweep.
        quiet: show nothing.
        console: where to draw; stderr unless given.
        clock: monotonic seconds.
        every_s: least time between two lines where there is no terminal [s].
    """

    def __init__(
        self,
        title: str = "",
        *,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = 10.0,
    ):
        self._title = title
        self._quiet = quiet
        self._console = console
        self._clock = clock
        self._every_s = every_s
        self._live: Live | None = None
        self._total = 0
        self._last: Snapshot | None = None
        self._spoke_at = float("-inf")
        self._spoke_of: Snapshot | None = None

    def note(self, text: str) -> None:
        """Say what takes a moment, before the start."""
        if not self._quiet:
            self._open()
            self._say(text)

    def start(self, total: int, already: int, takes: str = "", *, asks: str = "") -> None:
        """Begin.

        Args:
            total: runs to train now [runs].
            already: runs of the sweep that were stored before [runs].
            takes: how long it will take, in words; empty while unknown.
            asks: of a search, what it will do, in words.
        """
        if self._quiet:
            return
        from rich.live import Live

        self._total = total
        console = self._open()
        stored = f", {already:,} already stored" if already else ""
        head = asks or f"{total:,} {'run' if total == 1 else 'runs'} to train{stored}"
        self._say(f"{head}{f'; {takes}' if total and takes else ''}")
        self._spoke_at = self._clock()
        if console.is_terminal and total:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def update(self, snapshot: Snapshot) -> None:
        """Show the news; off a terminal only where the last line is old enough, or all is done."""
        if self._quiet or self._console is None:
            return
        self._last = snapshot
        if self._live is not None:
            self._live.update(panel(snapshot, title=self._title, total=self._total), refresh=True)
        elif (snapshot.ended >= self._total and not snapshot.total) or self._clock() - self._spoke_at >= self._every_s:
            self._say_last()

    def stop(self) -> None:
        """End, with the last news as a line that stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._last is not None:
            self._say_last()

    def _open(self) -> Console:
        from rich.console import Console

        self._console = self._console or Console(stderr=True)
        return self._console

    def _say_last(self) -> None:
        if self._last is not None and self._last != self._spoke_of:
            self._spoke_at, self._spoke_of = self._clock(), self._last
            self._say(line(self._last, total=self._total))

    def _say(self, text: str) -> None:
        assert self._console is not None
        prefix = f"{self._title}: " if self._title else ""
        self._console.print(f"{prefix}{text}", markup=False, highlight=False, soft_wrap=True)


def line(snapshot: Snapshot, *, total: int) -> str:
    """A snapshot in one line, for logs."""
    total = snapshot.total or total
    share = "" if snapshot.total else f" ({snapshot.ended / total if total else 1.0:.0%})"
    parts = [
        *([snapshot.trials] if snapshot.trials else []),
        f"{snapshot.ended:,}/{total:,} runs{share}",
        f"{snapshot.running:,} running",
        f"{snapshot.waiting:,} waiting",
        *_counts(snapshot),
    ]
    return ", ".join([*parts, *_pace(snapshot), *([snapshot.note] if snapshot.note else [])])


def panel(snapshot: Snapshot, *, title: str, total: int) -> RenderableType:
    """A snapshot as the live panel."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 1))
    share = snapshot.ended / total if total else 1.0
    bar = ProgressBar(total=max(total, 1), completed=snapshot.ended, width=36)
    done = f"{snapshot.ended:,}/{total:,} runs  {share:.0%}"
    if snapshot.trials:
        done = f"{snapshot.trials}, {snapshot.ended:,} of {snapshot.total or total:,} runs asked"
    head.add_row(Text(title, style="bold"), bar, Text(done))
    where = [f"{snapshot.running:,} running", f"{snapshot.waiting:,} waiting", *_counts(snapshot)]
    rows: list[RenderableType] = [
        head,
        Text("  " + " · ".join(where)),
        Text("  " + " · ".join(_pace(snapshot)), style="dim"),
    ]
    if snapshot.note:
        rows.append(Text(f"  {snapshot.note}", style="dim"))
    return Group(*rows)


def _counts(snapshot: Snapshot) -> list[str]:
    """Events always; what went wrong only where something did."""
    parts = [f"{snapshot.events:,} {'event' if snapshot.events == 1 else 'events'}"]
    parts += [f"{snapshot.diverged:,} diverged"] if snapshot.diverged else []
    return parts + ([f"{snapshot.failed:,} failed"] if snapshot.failed else [])


def _pace(snapshot: Snapshot) -> list[str]:
    parts = [f"{snapshot.run_steps_per_s:,.0f} run-steps/s"] if snapshot.run_steps_per_s > 0 else []
    if snapshot.seconds_left is not None:
        parts.append(f"about {duration(snapshot.seconds_left)} left")
    return parts


def afresh_note(runs: int) -> str:
    """That saved states were of no use."""
    one = runs == 1
    states, ran = ("saved state", "that run") if one else ("saved states", "those runs")
    return f"{runs:,} {states} could not be read, {ran} started afresh"


def about(found: Duration | None) -> str:
    """How long a plan takes, in words; empty where that is unknown."""
    if found is None:
        return ""
    expected, at_most = duration(found.expected_s), duration(found.at_most_s)
    return f"about {expected} (at most {at_most})" if expected != at_most else f"about {expected}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{hours} h {m:02d} min"
    return f"{minutes} min {s:02d} s" if minutes else f"{s} s"
