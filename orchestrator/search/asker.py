"""The side thread that asks and tells, so that no worker waits for a sampler.

    driver ──("ask", runs)──▶ inbox ─▶ strategy ─▶ outbox ──Proposals──▶ driver
           ──("tell", answer)─▶            │
                                           └▶ study, trials.parquet

Where the study's database goes away, the thread connects again for `PATIENCE_S` while cohorts go on training; what was
asked in the meantime without our hearing of it is found in the study afterwards and handed out then.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from analysis.store import Store
from orchestrator.errors import OrchestratorError
from orchestrator.search.proposal import Answer, Proposal
from orchestrator.search.sampled import Recorded
from orchestrator.search.settings import Asked
from orchestrator.search.space import Space
from orchestrator.search.storage import Away
from orchestrator.search.study import Book
from orchestrator.search.trial import trials_table

PATIENCE_S = 120.0  # with a database that does not answer
LAST_S = 30.0  # the same, once all else is done
RETRY_S = 1.0
TABLE_S = 1.0  # between two writings of the trials' table, at least

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class News:
    """What the thread says: proposals that were asked, that it is over, or what went wrong.

    Attributes:
        proposals: to be trained.
        is_answer: to a request, which is thereby done.
        is_over: nothing more will be asked.
        fault: why it cannot go on; empty otherwise.
    """

    proposals: tuple[Proposal, ...] = ()
    is_answer: bool = False
    is_over: bool = False
    fault: str = ""


class Budget:
    """How much a search may still ask; the budgets of what is under way count whole.

    Args:
        asked: what the file says.
        by_config: count distinct configs rather than trials.
        worked_s: the search took before [s].
    """

    def __init__(self, asked: Asked, *, by_config: bool = False, worked_s: float = 0.0):
        self._settings, self._by_config = asked.settings, by_config
        self._began = time.monotonic() - worked_s
        self.spent = 0.0  # run-steps trained by what was told
        self.out: dict[int, float] = {}  # trial -> run-steps it may cost

    @property
    def worked_s(self) -> float:
        """How long the search has been at work, all its processes together [s]."""
        return time.monotonic() - self._began

    def runs_left(self, book: Book, *, replicates: int, budget_steps: int) -> float:
        """Runs that may still be asked for [runs]."""
        left = float("inf")
        if self._settings.configs is not None:
            own = [one for one in book.trials.values() if not one.is_warm and one.config_id]
            n = len({one.config_id for one in own}) if self._by_config else len(own)
            left = min(left, (self._settings.configs - n) * replicates)
        if self._settings.run_steps is not None:
            free = self._settings.run_steps - self.spent - sum(self.out.values())
            left = min(left, free // budget_steps)
        if self._settings.hours is not None and self.worked_s >= 3600.0 * self._settings.hours:
            left = 0.0
        return max(0.0, left)


class Asker:
    """A strategy in a thread of its own.

    Args:
        strategy: decides.
        book: the study; only the thread touches it from `start` on.
        space: of the search.
        asked: what the file says.
        budget: ends the asking.
        store: takes the table of trials.
        sweep: its name.
        budget_steps: of the longest run that a proposal may hold [steps].
    """

    def __init__(
        self,
        strategy: Recorded,
        *,
        book: Book,
        space: Space,
        asked: Asked,
        budget: Budget,
        store: Store,
        sweep: str,
        budget_steps: int,
    ):
        self._strategy, self._book, self._space, self._asked = strategy, book, space, asked
        self._budget, self._store, self._sweep, self._budget_steps = budget, store, sweep, budget_steps
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="asker", daemon=True)
        self._given: set[int] = set()  # trials that the driver knows of
        self._written_at = float("-inf")
        self._until = float("inf")  # when patience ends, whatever happens

    def start(self, *, given: set[int]) -> None:
        """Begin; the trials given are with the driver already."""
        self._given = set(given)
        self._thread.start()

    def ask(self, *, most_runs: int) -> None:
        """Ask for proposals, of so many runs together; the answer comes as News."""
        self._inbox.put(("ask", most_runs))

    def tell(self, answer: Answer) -> None:
        """Tell what came of a proposal."""
        self._inbox.put(("tell", answer))

    def news(self, *, wait_s: float = 0.0) -> list[News]:
        """What there is to hear; waits for the first of it."""
        found: list[News] = []
        try:
            found.append(self._outbox.get(timeout=wait_s) if wait_s else self._outbox.get_nowait())
            while True:
                found.append(self._outbox.get_nowait())
        except queue.Empty:
            return found

    def stop(self) -> None:
        """Tell what was handed in, write the table, and end."""
        self._until = time.monotonic() + LAST_S
        self._inbox.put(("stop", None))
        if self._thread.is_alive():
            self._thread.join(timeout=LAST_S + 10.0)

    # -- in the thread -----------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while True:
                kind, content = self._inbox.get()
                if kind == "stop":
                    break
                self._patiently(lambda: self._do(kind, content))  # noqa: B023 - called at once
                if self._inbox.empty() or time.monotonic() - self._written_at > TABLE_S:
                    self._write_table()
            self._write_table(is_last=True)
        except OrchestratorError as error:
            self._outbox.put(News(fault=str(error), is_over=True))
        except Exception as error:  # the driver must not wait for ever; its message is all that is known
            self._outbox.put(News(fault=f"search: {type(error).__name__}: {error}", is_over=True))
        finally:
            self._book.rest()

    def _do(self, kind: str, content: Any) -> None:
        if kind == "tell":
            self._strategy.tell(content)
            self._budget.out.pop(content.proposal.trial, None)
            self._budget.spent += sum(one.steps for one in content.outcomes)
            return
        left = self._budget.runs_left(self._book, replicates=self._space.n_replicates, budget_steps=self._budget_steps)
        most = int(min(left, content))
        found = self._strategy.ask(most_runs=most) if most >= 1 else []
        for one in found:
            self._take(one)
        is_spent = left < self._space.n_replicates and not self._may_grow()
        is_over = not found and (not self._budget.out or self._strategy.is_over or is_spent)
        self._outbox.put(News(proposals=tuple(found), is_answer=True, is_over=is_over))

    def _may_grow(self) -> bool:
        """Whether answers give back some of the budget: what is under way counts whole."""
        return self._asked.settings.run_steps is not None

    def _take(self, proposal: Proposal) -> None:
        self._given.add(proposal.trial)
        self._budget.out[proposal.trial] = float(len(proposal.replicates) * self._budget_steps)

    def _patiently(self, act: Callable[[], None]) -> None:
        """Do it; where the database is away, wait for it, look at what it has, and do it again."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return act()
            except Away as error:
                self._return(until=until, error=error)

    def _return(self, *, until: float, error: Away) -> None:
        while True:
            if time.monotonic() > min(until, self._until):
                raise OrchestratorError(f"{error}; what was trained is stored, and the same command goes on") from None
            time.sleep(RETRY_S)
            try:
                self._book.reopen()
                lost = [one.proposal for one in self._book.pending() if one.number not in self._given]
            except Away as again:
                error = again
                continue
            for one in lost:
                self._take(one)
            if lost:
                self._outbox.put(News(proposals=tuple(lost)))
            return

    def _write_table(self, *, is_last: bool = False) -> None:
        if is_last or time.monotonic() - self._written_at > TABLE_S:
            trials = [self._book.trials[number] for number in sorted(self._book.trials)]
            labels = [one.label for one in self._asked.scored]
            self._store.save_trials(self._sweep, trials_table(trials, space=self._space, labels=labels))
            self._written_at = time.monotonic()
            if self._asked.settings.hours is not None:
                self._patiently(lambda: self._book.keep_worked(self._budget.worked_s))
