"""One process's hold on a search: its study, its strategy, what of it is stored, and how far it has come."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.store import Store
from orchestrator.errors import BadRequest
from orchestrator.queue import CohortQueue
from orchestrator.search import STRATEGIES
from orchestrator.search.asker import Asker, Budget
from orchestrator.search.feed import Feed
from orchestrator.search.forecast import Forecast, batch_of, slots_of
from orchestrator.search.proposal import Answer, Proposal
from orchestrator.search.request import Search
from orchestrator.search.rows import Rows
from orchestrator.sweep import Sweep

if TYPE_CHECKING:
    from orchestrator.search.sampled import Recorded, Recorder
    from orchestrator.search.study import Book
    from workloads.spec import RunSpec


class Driven:
    """A search that this process drives: its study is open, and nobody else may write to it.

    Args:
        sweep: the search's.
        store: where it runs.
    """

    def __init__(self, sweep: Sweep, *, store: Store):
        assert sweep.search is not None
        self.sweep, self.store = sweep, store
        self.search: Search = sweep.search
        self._held = contextlib.ExitStack()
        self.rows = Rows(store)
        self.rows.refresh()
        self.reads_loss = (
            any(one.kind == "final_loss" for one in self.search.asked.scored) or not self.search.is_sampler
        )

    def __enter__(self) -> Driven:
        from orchestrator.search.sampled import Recorder
        from orchestrator.search.samplers import quiet
        from orchestrator.search.storage import Address
        from orchestrator.search.study import Book

        quiet()
        settings, space = self.search.asked.settings, self.search.space
        folder = self._folder(settings.storage)
        self.book: Book = Book(
            Address(folder=folder, name=self.sweep.name, url=settings.storage),
            space=space,
            goals={one.label: one.is_maximised for one in self.search.asked.objectives},
            identity=identity(self.search, store=self.store if settings.storage else None),
            sampler=self.search.name if self.search.is_sampler else None,
            options=self.search.options if self.search.is_sampler else {},
            seed=settings.seed,
        )
        self.recorder: Recorder = Recorder(self.book, space=space, asked=self.search.asked)
        return self

    def __exit__(self, *_: object) -> None:
        self.book.close()
        self._held.close()

    def _folder(self, storage: str | None) -> Path:
        """Where a study's journal and lock lie: by the sweep; a bucket's here, while `tenure` keeps others out."""
        folder = self.store.sweep_dir(self.sweep.name)
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        if storage is None:
            way_out = "give search.storage a database's address, such as postgresql+psycopg://user@host/db"
            raise BadRequest(f"{self.store.path}: a bucket cannot hold a study's journal; {way_out}")
        return Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="eureka-study-")))

    def feed(self, ahead: Forecast, *, resumes: Iterable[str]) -> tuple[Feed, Asker]:
        """The side thread and what joins it to a queue; neither is at work yet."""
        slots, space = slots_of(ahead.plan), self.search.space
        batch = batch_of(self.search, slots=slots)
        together = self.search.asked.settings.together or -(-slots // (ahead.plan.workers * space.n_replicates))
        self.strategy = self._strategy(together=together)
        self.budget = Budget(self.search.asked, by_config=self.strategy.revisits, worked_s=self.book.worked_s)
        asker = Asker(
            self.strategy,
            book=self.book,
            space=space,
            asked=self.search.asked,
            budget=self.budget,
            store=self.store,
            sweep=self.sweep.name,
            budget_steps=self.search.budget_steps,
        )
        feed = Feed(
            asker,
            space=space,
            rows=self.rows,
            outlook=ahead.plan.outlook,
            workers=ahead.plan.workers,
            slots=slots,
            batch_runs=batch * space.n_replicates,
            reads_loss=self.reads_loss,
            on_members=self.keep,
            resumes=resumes,
        )
        return feed, asker

    def _strategy(self, *, together: int) -> Recorded:
        from orchestrator.search.sampled import Own, Sampled

        if self.search.is_sampler:
            return Sampled(self.recorder, name=self.search.name, together=max(1, together))
        inner = STRATEGIES[self.search.name](self.search.asked, self.search.space, self.search.asked.settings.seed)
        return Own(inner, recorder=self.recorder)

    def go_on(self, feed: Feed, *, queue: CohortQueue) -> None:
        """Stand where the study stands: warm start, what was told, what was asked."""
        from orchestrator.search.warm import tell_stored

        if self.search.asked.settings.warm_start:
            tell_stored(self.recorder, store=self.store, rows=self.rows, reads_loss=self.reads_loss)
        warm = {trial.config_id for trial in self.book.trials.values() if trial.is_warm}
        feed.members |= dict.fromkeys(run for run, row in self.rows.by_run.items() if row.config_id in warm)
        waiting = self.book.pending()
        if warm and not self.search.is_sampler:
            self._remind_warm()
        for trial in sorted(self.book.trials.values(), key=lambda one: one.number):
            if trial.state != "running" and trial.config_id and not trial.is_warm:
                self._remind(trial.proposal, feed=feed)
        fresh: list[RunSpec] = []
        for trial in waiting:
            self.budget.out[trial.number] = float(len(trial.replicates) * self.search.budget_steps)
            self.strategy.recall(trial.proposal)
            fresh += feed.register(trial.proposal)
        feed.done_before = sum(run in self.rows.by_run for run in feed.members)
        feed.train(fresh, queue=queue)

    def _remind(self, proposal: Proposal, *, feed: Feed) -> None:
        runs = self.search.space.runs(proposal)
        feed.members |= dict.fromkeys(run.run_id for run in runs)
        outcomes = feed.outcomes(proposal, runs=runs) if not self.search.is_sampler else ()
        self.budget.spent += sum(self.rows.by_run[run.run_id].steps for run in runs if run.run_id in self.rows.by_run)
        if not self.search.is_sampler:
            self.strategy.remind(Answer(proposal=proposal, outcomes=outcomes))

    def _remind_warm(self) -> None:
        """Tell a strategy of our own what was stored before it was first asked."""
        runs_of = self.rows.by_config()
        for trial in self.book.trials.values():
            if trial.is_warm:
                outcomes = self.rows.outcomes(runs_of.get(trial.config_id, []), losses={})
                self.strategy.remind(Answer(proposal=trial.proposal, outcomes=tuple(outcomes)))

    def keep(self, members: Iterable[str], *, is_open: bool = True) -> None:
        """Write the sweep's record, with all runs that were asked so far."""
        self.store.save_sweep({**self.sweep.record(), "runs": list(members), "open": is_open})

    def counts(self) -> dict[str, int]:
        """Trials by state; those of a warm start apart."""
        found = {"complete": 0, "failed": 0, "running": 0, "warm": 0}
        for trial in list(self.book.trials.values()):
            found["warm" if trial.is_warm else trial.state] += 1
        return found


@dataclass
class Growth:
    """How far a search has come, for whoever shows it."""

    driven: Driven
    feed: Feed
    ahead: Forecast

    @property
    def total(self) -> int:
        """Runs asked so far by all its processes [runs]."""
        return max(1, len(self.feed.members) - self.feed.done_before)

    @property
    def unasked_steps(self) -> int:
        """Budgets of what may still be asked [run-steps]."""
        left = self.driven.search.most_trials
        if left is None:
            return 0
        counts = self.driven.counts()
        unasked = max(0, left - counts["complete"] - counts["failed"] - counts["running"])
        return unasked * self.driven.search.space.n_replicates * self.driven.search.budget_steps

    @property
    def said(self) -> str:
        """Trials told, of how many."""
        counts = self.driven.counts()
        most = self.driven.search.most_trials
        return f"{counts['complete'] + counts['failed']:,}{f'/{most:,}' if most else ''} trials"


def identity(search: Search, *, store: Store | None) -> dict[str, Any]:
    """What makes a study this search's, by name; the store counts where the study lies outside it."""
    lowest: dict[str, Any] = {}
    for setting in search.space.settings:
        if setting.is_active(lowest):
            lowest[setting.field] = setting.ends[0]
    own = {
        "space": search.space.record(),
        "base": search.space.config(lowest).config_id,
        "objective": [one.record() for one in search.asked.objectives],
        "constraints": [one.record() for one in search.asked.constraints],
    }
    return own | ({} if store is None else {"store": str(store.path)})
