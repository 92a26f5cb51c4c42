"""Runs a search into a store: go on where the study stands, ask, train, tell, until a budget or the strategy ends it.

Running the same search again is how it is resumed: what the study was told stays told, what was asked is looked up in
the ledger and trained where it is not there, and then it asks on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace

from analysis.store import Store
from orchestrator.errors import BadRequest, OrchestratorError
from orchestrator.planner import Means, require_needs
from orchestrator.progress import ProgressView, about
from orchestrator.queue import CohortQueue
from orchestrator.run import RunOutcome, Tally, damaged_states, prepare, work_through
from orchestrator.search.driver import Driven, Growth
from orchestrator.search.forecast import Forecast, drawn_runs, forecast
from orchestrator.search.show import best_lines
from orchestrator.sweep import Sweep
from orchestrator.tenure import tenure


def run_search(
    sweep: Sweep,
    *,
    store_path: str | os.PathLike[str],
    means: Means,
    view: ProgressView,
    checkpoint_s: float,
) -> RunOutcome:
    """Ask, train and tell until the search is over.

    Args:
        sweep: with its search.
        store_path: the store; made if there is none.
        means: with what to train.
        view: where progress is shown.
        checkpoint_s: how often a cohort saves its unfinished runs [s].

    Raises:
        BadRequest: the study is another's, is driven by another process, or cannot be reached.
        StoreError: the store is not one, or cannot be written.
        OrchestratorError: the search cannot go on.
    """
    began = time.monotonic()
    assert sweep.search is not None
    one = replace(sweep, search=None, runs=drawn_runs(sweep.search.space, configs=1))
    require_needs(one, store=None)  # before a store is made
    store = Store.create(store_path)
    with Driven(sweep, store=store) as driven, tenure(store, sweep=sweep.name, is_shared=False):
        ahead = forecast(sweep, store=store, means=replace(means, measures="none"))
        prepare(ahead.plan, means=means)
        before = frozenset(store.statuses())
        view.start(_total(ahead), 0, about(ahead.duration), asks=_asks(ahead))
        saved = store.checkpoints.furthest()
        damaged = damaged_states(store, {path.name for path, _ in saved.values()})
        feed, asker = driven.feed(ahead, resumes=saved)
        tally = Tally(ahead.plan, view, growth=Growth(driven, feed=feed, ahead=ahead))
        queue = CohortQueue(
            store=store,
            sweep=sweep.name,
            cohorts=(),
            settings={"device": means.device, "checkpoint_s": checkpoint_s},
            saved=saved,
            source=feed,
        )
        tally.watch(queue)
        try:
            driven.go_on(feed, queue=queue)
            driven.book.rest()  # the other thread has it from here on
            asker.start(given=set(driven.book.trials))
            interrupted = work_through(queue, tally, means=means)
        finally:
            asker.stop()
            feed.hear_last()
            tally.show()
            view.stop()
        driven.keep(feed.members, is_open=interrupted or bool(feed.fault))
        if feed.fault:
            raise OrchestratorError(feed.fault)
        told = best_lines(driven.book, search=driven.search)
        counts = driven.counts()
    store.checkpoints.drop_spent(store.statuses())
    return _outcome(
        store, feed.members, before=before, tally=tally, interrupted=interrupted, damaged=damaged
    ).with_search(trials=counts, told=told, seconds=time.monotonic() - began)


def _total(ahead: Forecast) -> int:
    n = ahead.search.space.n_replicates
    left = ahead.trials_left
    return max(1, n * left if left is not None else len(ahead.plan.sweep.runs))


def _asks(ahead: Forecast) -> str:
    """What is about to happen, in words."""
    n, left = ahead.search.space.n_replicates, ahead.trials_left
    told = sum(ahead.trials.values())
    most = f"at most {left:,} trials of {n} runs" if left is not None else f"trials of {n} runs each"
    return f"{ahead.search.name} asks {most}{f', {told:,} in the study' if told else ''}"


def _outcome(
    store: Store, members: Iterable[str], *, before: frozenset[str], tally: Tally, interrupted: bool, damaged: int
) -> RunOutcome:
    after, own = store.statuses(), set(members)
    added = [after[run] for run in own if run in after and run not in before]
    return RunOutcome(
        trained=len(added),
        already=len(own & before),
        failed_before=sum(after.get(run) == "failed" for run in own & before),
        failed=added.count("failed"),
        diverged=added.count("diverged"),
        events=store.online_events(own - before),
        seconds=0.0,
        interrupted=interrupted,
        afresh=tally.afresh,
        damaged=damaged,
    )


def refuse(*, retry_failed: bool, is_shared: bool) -> None:
    """What a search does not do.

    Raises:
        BadRequest: it is asked for.
    """
    if retry_failed:
        raise BadRequest("--retry-failed: a search has told its failed trials; raise search.configs for others instead")
    if is_shared:
        raise BadRequest("a search is driven by one command; give it more workers, or a cluster, instead of sharing it")
