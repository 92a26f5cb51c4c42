"""Between the side thread that asks and the queue that trains: proposals become cohorts, ledger rows become answers.

The driver's own thread calls `poll` whenever it hears of a worker. New configs are asked for while fewer runs are
open than fill the slots `FILLINGS` times, so that workers have something at hand while a sampler thinks; more would
be asked in ignorance of what these runs will say.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.outlook import Outlook
from orchestrator.packing import pack
from orchestrator.search.asker import Asker
from orchestrator.search.proposal import Answer, Outcome, Proposal
from orchestrator.search.rows import Rows
from orchestrator.search.space import Space
from workloads.spec import RunSpec

if TYPE_CHECKING:
    from orchestrator.queue import CohortQueue

FILLINGS = 2.0  # of the slots, by runs that are open
LEDGER_S = 0.25  # between two looks at the ledger, at least


@dataclass
class Open:
    """A proposal under way.

    Attributes:
        proposal: as asked.
        runs: its runs, in the order of its replicates.
        lacking: those that have no row yet.
    """

    proposal: Proposal
    runs: tuple[RunSpec, ...]
    lacking: set[str] = field(default_factory=set)


class Feed:
    """Keeps a queue in work.

    Args:
        asker: the side thread.
        space: of the search.
        rows: the ledger.
        outlook: what is known of the runs.
        workers: processes that train at once.
        slots: runs in training at once.
        batch_runs: asked for in one go.
        reads_loss: outcomes carry the final loss.
        on_members: told of all runs of the search whenever there are new ones, before they are trained.
        resumes: run_ids with a saved state.
    """

    def __init__(
        self,
        asker: Asker,
        *,
        space: Space,
        rows: Rows,
        outlook: Outlook,
        workers: int,
        slots: int,
        batch_runs: int,
        reads_loss: bool,
        on_members: Callable[[Iterable[str]], None],
        resumes: Iterable[str] = (),
    ):
        self._asker, self._space, self._rows, self._outlook = asker, space, rows, outlook
        self._workers, self._batch_runs = workers, batch_runs
        self._wanted = FILLINGS * slots
        self._reads_loss, self._on_members, self._resumes = reads_loss, on_members, set(resumes)
        self._open: dict[int, Open] = {}
        self._waiting: dict[str, set[int]] = defaultdict(set)  # run -> open trials that wait for it
        self._queued: set[str] = set()
        self._is_asking = self._is_dry = False  # dry: the last request brought nothing, and nothing was told since
        self._looked_at = float("-inf")
        self.members: dict[str, None] = {}
        self.done_before = 0  # of the members, when this process began
        self.is_over = False
        self.fault = ""

    @property
    def open_runs(self) -> int:
        """Runs that were asked for and have not ended."""
        return len(self._waiting)

    @property
    def open_trials(self) -> int:
        """Trials that were asked and not answered."""
        return len(self._open)

    @property
    def is_open(self) -> bool:
        """More runs may come."""
        return not self.fault and not (self.is_over and not self._open)

    def poll(self, queue: CohortQueue, *, wait_s: float = 0.0) -> None:
        """Hear what was asked, look at what has ended, and see that there is always something to train."""
        fresh: list[RunSpec] = []
        for news in self._asker.news(wait_s=wait_s):
            self._is_asking = self._is_asking and not news.is_answer
            self._is_dry = news.is_answer and not news.proposals
            self.is_over = self.is_over or news.is_over
            self.fault = self.fault or news.fault
            fresh += [run for proposal in news.proposals for run in self.register(proposal)]
        if fresh:
            self.train(fresh, queue=queue)
        if time.monotonic() - self._looked_at >= LEDGER_S:
            self._looked_at = time.monotonic()
            self.settle(self._rows.refresh())
        if not (self._is_asking or self._is_dry or self.is_over) and self.open_runs < self._wanted:
            self._is_asking = True
            self._asker.ask(most_runs=self._batch_runs)

    def hear_last(self) -> None:
        """What the side thread said at its end; nothing is trained any more."""
        for news in self._asker.news():
            self.fault = self.fault or news.fault

    def register(self, proposal: Proposal) -> list[RunSpec]:
        """Take a proposal up; gives those of its runs that nobody trains yet."""
        runs = self._space.runs(proposal)
        lacking = {run.run_id for run in runs} - self._rows.by_run.keys()
        self._open[proposal.trial] = Open(proposal=proposal, runs=runs, lacking=lacking)
        for run in lacking:
            self._waiting[run].add(proposal.trial)
        self.members |= dict.fromkeys(run.run_id for run in runs)
        if not lacking:
            self._answer(proposal.trial)
        new = [run for run in runs if run.run_id in lacking and run.run_id not in self._queued]
        self._queued |= {run.run_id for run in new}
        return new

    def train(self, runs: Sequence[RunSpec], *, queue: CohortQueue) -> None:
        """Pack runs and hand them to the queue; the record of the sweep has them first."""
        self._on_members(self.members)
        queue.add(pack(runs, outlook=self._outlook, workers=self._workers, first=self._resumes))

    def settle(self, ended: Iterable[str]) -> None:
        """Answer the trials whose runs have all ended."""
        touched = Counter(trial for run in ended for trial in self._waiting.pop(run, ()))
        for trial in touched:
            one = self._open[trial]
            one.lacking -= self._rows.by_run.keys()
            if not one.lacking:
                self._answer(trial)

    def outcomes(self, proposal: Proposal, *, runs: Sequence[RunSpec]) -> tuple[Outcome, ...]:
        """The runs of a proposal, as far as the ledger has them."""
        ids = [run.run_id for run in runs]
        losses = self._rows.final_losses(ids) if self._reads_loss else {}
        return tuple(
            self._rows.by_run[run].outcome(replicate=number, final_loss=losses.get(run))
            for number, run in zip(proposal.replicates, ids, strict=True)
            if run in self._rows.by_run
        )

    def _answer(self, trial: int) -> None:
        one = self._open.pop(trial)
        self._is_dry = False
        self._asker.tell(Answer(proposal=one.proposal, outcomes=self.outcomes(one.proposal, runs=one.runs)))
