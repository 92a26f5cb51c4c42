"""Several commands on one sweep, without Ray: each claims some runs, trains them, and claims again until all are done.

Commands may join and leave at any time, on any machine that sees the store. What a dead one had claimed is
taken over when its lease has run out, from its last saved states. Towards the end claims get smaller, so that
the last runs spread over all who are there.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence

from analysis.store import Store
from orchestrator.claims import LEASE_S, Claims
from orchestrator.errors import BadRequest
from orchestrator.outlook import Outlook
from orchestrator.packing import cohort_of
from orchestrator.plan import Plan
from orchestrator.planner import Means, plan_sweep
from orchestrator.progress import ProgressView
from orchestrator.queue import CohortQueue
from orchestrator.run import RunOutcome, Tally, damaged_states, outcome_of, prepare, work_through
from orchestrator.sweep import Sweep
from orchestrator.tenure import tenure
from workloads.spec import RunSpec

POLL_S = 1.0  # how often the ledger and the claims are looked at while there is nothing to train


class Shared:
    """The source of a queue's cohorts: what nobody else has claimed.

    Args:
        plan: what the sweep lacked when this command began.
        store: where it runs.
        claims: of all commands.
    """

    def __init__(self, plan: Plan, *, store: Store, claims: Claims):
        self._store, self._claims, self._outlook = store, claims, plan.outlook
        self._runs: dict[str, RunSpec] = {run.run_id: run for run in plan.new}
        self._polled = -math.inf
        self.claimed = 0

    @property
    def is_open(self) -> bool:
        """Some run has no row yet: it may have to be taken over."""
        return bool(self._left())

    def poll(self, queue: CohortQueue, *, wait_s: float = 0.0) -> None:
        """Claim a cohort when nothing is ready and a worker runs short; else wait, where there is time."""
        now = time.monotonic()
        wanted = _short_of(queue)
        if queue.ready or queue.halted or (queue.out and (not wanted or now - self._polled < POLL_S)):
            return
        self._polled = now
        shape = next((given.plan.shape_key for given in queue.out.values()), None)
        taken: list[RunSpec] = []

        def choose(held: set[str], commands: int) -> Sequence[str]:
            out_of_reach = held | _own(queue)
            left = [run for name, run in self._left().items() if name not in out_of_reach]
            taken.extend(chosen(left, outlook=self._outlook, commands=commands, shape=shape, most=wanted))
            return [run.run_id for run in taken]

        done = self._store.statuses()
        own = _own(queue)
        self._claims.keep_only(lambda run: run in own and run not in done)
        self._claims.take(choose)
        if taken:
            self.claimed += len(taken)
            queue.saved = self._store.checkpoints.furthest()
            queue.add([cohort_of(taken, width=self._outlook.width_of(taken[0].shape_key))])
        elif wait_s:
            time.sleep(max(wait_s, POLL_S))

    @property
    def total(self) -> int:
        """Runs that this command has claimed so far [runs]."""
        return max(1, self.claimed)

    @property
    def unasked_steps(self) -> int:
        """Nothing is known of what the others will leave [run-steps]."""
        return 0

    @property
    def said(self) -> str:
        """How far all commands have come together."""
        return f"{len(self._runs) - len(self._left()):,}/{len(self._runs):,} runs in the ledger"

    def _left(self) -> Mapping[str, RunSpec]:
        done = self._store.statuses()
        return {name: run for name, run in self._runs.items() if name not in done}


def chosen(
    left: Sequence[RunSpec], *, outlook: Outlook, commands: int, shape: str | None = None, most: int | None = None
) -> Sequence[RunSpec]:
    """Which of the runs that nobody holds a command should take: one shape, and no more than its share.

    Args:
        left: in the sweep's order.
        outlook: how many share a cohort.
        commands: at work, this one counted.
        shape: what it trains now and could take more of.
        most: so many at most; a cohort's slots unless given.
    """
    kinds = list(dict.fromkeys(run.shape_key for run in left))
    if shape is None and kinds:
        shape = kinds[0]
    if shape not in kinds:
        return ()
    same = [run for run in left if run.shape_key == shape]
    share = math.ceil(len(same) / commands)
    return same[: max(1, min(most or outlook.width_of(shape), share))]


def run_shared(
    sweep: Sweep,
    *,
    store_path: str | os.PathLike[str],
    means: Means,
    view: ProgressView,
    checkpoint_s: float,
    lease_s: float = LEASE_S,
) -> RunOutcome:
    """Train a share of what the sweep lacks, and stay until all of it has its row.

    Args:
        sweep: the question.
        store_path: the store; made if there is none.
        means: with what to train; only without Ray, which shares by itself.
        view: where progress is shown.
        checkpoint_s: how often a cohort saves its unfinished runs [s].
        lease_s: how long the runs of a command that has died are left alone [s].

    Raises:
        BadRequest: sharing is not for this sweep or launcher; or a command is at it that does not share.
        StoreError: the store is not one, or cannot be written.
        OrchestratorError: training cannot go on.
    """
    if means.launcher != "inline":
        raise BadRequest("--share: got --launcher ray; expected inline. Ray shares a sweep among its workers by itself")
    if sweep.search is not None:
        raise BadRequest("--share: got a search; expected a grid. A study has one writer: run it without --share")
    began = time.monotonic()
    store = Store.create(store_path)
    with tenure(store, sweep=sweep.name, is_shared=True):
        return _run_beside(
            sweep, store=store, means=means, view=view, checkpoint_s=checkpoint_s, lease_s=lease_s, began=began
        )


def _run_beside(
    sweep: Sweep,
    *,
    store: Store,
    means: Means,
    view: ProgressView,
    checkpoint_s: float,
    lease_s: float,
    began: float,
) -> RunOutcome:
    """Train a share; every other command at the sweep does, too."""
    store.save_sweep(sweep.record())
    plan = plan_sweep(sweep, store=store, means=means)
    prepare(plan, means=means)
    interrupted, saved = False, store.checkpoints.furthest() if plan.new else {}
    damaged = damaged_states(store, {path.name for path, _ in saved.values()}) if plan.new else 0
    view.start(len(plan.new), plan.already)
    with Claims(store, sweep=sweep.name, lease_s=lease_s) as claims:
        source = Shared(plan, store=store, claims=claims)
        tally = Tally(plan, view, growth=source)
        queue = CohortQueue(
            store=store,
            sweep=sweep.name,
            cohorts=(),
            settings={"device": means.device, "checkpoint_s": checkpoint_s},
            saved=saved,
            source=source,
            token=claims.token,
            is_granted=claims.holds,
        )
        try:
            if plan.new:
                interrupted = work_through(queue, tally, means=means)
        finally:
            view.stop()
    store.checkpoints.drop_spent(store.statuses())
    return outcome_of(store, plan, began=began, interrupted=interrupted, afresh=tally.afresh, damaged=damaged)


def refuse_alone(is_asked: bool) -> None:
    """Each of the commands would take the others' failed rows out again.

    Raises:
        BadRequest: failed runs are asked for again.
    """
    if is_asked:
        raise BadRequest("--retry-failed: got it beside --share; expected one of them. Retry first, without --share")


def _short_of(queue: CohortQueue) -> int | None:
    """How many more runs the worker could take in soon; None where there is no worker."""
    for name, given in queue.out.items():
        pulse = queue.pulses.get(name)
        return 0 if pulse is None else max(0, given.plan.width - pulse.waiting)
    return None


def _own(queue: CohortQueue) -> set[str]:
    """Runs that this command trains or is about to."""
    plans = [*queue.ready, *(given.plan for given in queue.out.values())]
    return {run.run_id for plan in plans for run in plan.members}
