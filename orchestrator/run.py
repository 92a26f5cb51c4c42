"""Runs a sweep into a store: plan, train what is missing, say what happened.

Running the same sweep again is how everything is resumed: what is in the ledger is done, what has
a saved state goes on from it, the rest begins.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from analysis.errors import StoreError
from analysis.files import read_arrays
from analysis.store import Store
from orchestrator.code import make_code, shapes_to_compile
from orchestrator.early import EarlyRay
from orchestrator.errors import BadRequest, OrchestratorError
from orchestrator.plan import Plan, missing
from orchestrator.planner import LEDGER_COLUMNS, Means, learn, means_of, plan_sweep, require_needs
from orchestrator.progress import ProgressView, Snapshot, about, afresh_note
from orchestrator.pulse import Pulse
from orchestrator.queue import CohortQueue
from orchestrator.status import store_or_none
from orchestrator.sweep import Sweep
from orchestrator.tenure import tenure

LAUNCHERS = ("ray", "inline")
CHECKPOINT_S = 15.0
PACE_S = 20.0  # the speed shown is that of so many seconds
CALM = 0.9  # share of a worker's time in which it had a processor
SURE_S = 10.0  # before so many, the plan knows the speed better


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What one `eureka run` did.

    Attributes:
        trained, failed, diverged, events: runs that this call added to the ledger, and how many of them
            failed, diverged, or had the online rule see their event.
        already: runs of the sweep that were there before.
        failed_before: how many of those have a failed row.
        seconds: it took [s].
        interrupted: the sweep is not done; the same command goes on.
        afresh: runs that began again because their saved state could not be read.
        damaged: checkpoint files that could not be read at all.
        trials: of a search, by state; those of a warm start apart.
        told: what a search found, in lines.
    """

    trained: int
    already: int
    failed_before: int
    failed: int
    diverged: int
    events: int
    seconds: float
    interrupted: bool
    afresh: int = 0
    damaged: int = 0
    trials: Mapping[str, int] | None = None
    told: tuple[str, ...] = ()

    def with_search(self, *, trials: Mapping[str, int], told: tuple[str, ...], seconds: float) -> RunOutcome:
        """The same, and what the search came to."""
        return replace(self, trials=trials, told=told, seconds=seconds)


class Growing(Protocol):
    """How far a search has come, whose runs are not all known."""

    @property
    def total(self) -> int:
        """Runs asked so far [runs]."""

    @property
    def unasked_steps(self) -> int:
        """Budgets of what may still be asked [run-steps]."""

    @property
    def said(self) -> str:
        """The same, in words."""


def run_sweep(
    sweep: Sweep,
    *,
    store_path: str | os.PathLike[str],
    launcher: str = "ray",
    width: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    retry_failed: bool = False,
    view: ProgressView | None = None,
    checkpoint_s: float = CHECKPOINT_S,
    is_shared: bool = False,
    cpus: float = 1.0,
    gpus: float | None = None,
) -> RunOutcome:
    """Train the runs of a sweep that the store has not.

    Args:
        sweep: the question.
        store_path: the store; made if there is none.
        launcher: `ray`, or `inline` for one process without it.
        width: slots of a cohort; None leaves it to a measurement, or the device.
        workers: processes on this machine; None is one a core.
        device: `cpu`, `cuda`, or `auto` for the better of what is there.
        retry_failed: train runs again that have a failed row.
        view: where progress is shown.
        checkpoint_s: how often a cohort saves its unfinished runs [s].
        is_shared: other commands train the same sweep, too; needs `inline`.
        cpus: processors that a cluster keeps for each worker.
        gpus: accelerators, likewise; a fraction shares one, None is what the device needs.

    Raises:
        BadRequest: an unknown launcher or device, a fork's source is lacking, or another command is at the sweep.
        WorkloadError: pictures or texts are lacking.
        StoreError: the store is not one, or cannot be written.
        OrchestratorError: training cannot go on at all.
    """
    if launcher not in LAUNCHERS:
        raise BadRequest(f"--launcher: got '{launcher}'; expected one of {', '.join(LAUNCHERS)}")
    began = time.monotonic()
    view = view or ProgressView(quiet=True)
    means = means_of(device=device, workers=workers, launcher=launcher, width=width, measures="long", note=view.note)
    means = replace(means, cpus=cpus, gpus=gpus)
    require_needs(sweep, store=store_or_none(str(store_path)), retry_failed=retry_failed)  # before a store is made
    if sweep.search is not None:
        from orchestrator.search.run import refuse, run_search

        refuse(retry_failed=retry_failed, is_shared=is_shared)
        return run_search(sweep, store_path=store_path, means=means, view=view, checkpoint_s=checkpoint_s)
    if is_shared:
        from orchestrator.sharing import refuse_alone, run_shared

        refuse_alone(retry_failed)
        return run_shared(sweep, store_path=store_path, means=means, view=view, checkpoint_s=checkpoint_s)
    store = Store.create(store_path)
    with tenure(store, sweep=sweep.name, is_shared=False):
        return _run_alone(
            sweep,
            store=store,
            means=means,
            retry_failed=retry_failed,
            view=view,
            checkpoint_s=checkpoint_s,
            began=began,
        )


def _run_alone(
    sweep: Sweep,
    *,
    store: Store,
    means: Means,
    retry_failed: bool,
    view: ProgressView,
    checkpoint_s: float,
    began: float,
) -> RunOutcome:
    """Train what the ledger lacks; no other command is at the sweep."""
    store.save_sweep(sweep.record())
    if retry_failed:
        store.forget_failed([run.run_id for run in sweep.runs])
    lacks_runs = bool(missing(sweep, stored=store.statuses(), retry_failed=False))
    with EarlyRay(means.workers, is_wanted=means.launcher == "ray" and means.device == "cpu" and lacks_runs) as early:
        plan = plan_sweep(sweep, store=store, means=means)
        prepare(plan, means=means)
        view.start(len(plan.new), plan.already, about(plan.duration))
        tally = Tally(plan, view)
        saved = store.checkpoints.furthest() if plan.new else {}
        damaged = damaged_states(store, {path.name for path, _ in saved.values()}) if plan.new else 0
        interrupted = False
        try:
            if plan.new:
                interrupted = _train(
                    plan, tally, store, means=means, saved=saved, checkpoint_s=checkpoint_s, ready=early.wait
                )
        finally:
            view.stop()
    if plan.new and not interrupted and (means.device != "cpu" or tally.was_calm):
        startup_s = tally.startup_s(ended=time.monotonic())
        learn(plan, means=means, startup_s=startup_s, ledger=store.runs_table(columns=list(LEDGER_COLUMNS)))
    store.checkpoints.drop_spent(store.statuses())
    return outcome_of(store, plan, began=began, interrupted=interrupted, afresh=tally.afresh, damaged=damaged)


def _train(
    plan: Plan,
    tally: Tally,
    store: Store,
    *,
    means: Means,
    saved: Collection[str],
    checkpoint_s: float,
    ready: Callable[[], None],
) -> bool:
    """Train a plan; true when somebody interrupted."""
    settings = {"device": means.device, "checkpoint_s": checkpoint_s}
    queue = CohortQueue(store=store, sweep=plan.sweep.name, cohorts=plan.cohorts, settings=settings, saved=saved)
    return work_through(queue, tally, means=means, ready=ready)


def prepare(plan: Plan, *, means: Means) -> None:
    """What is made before anything trains: the code of compiled programs."""
    make_code(shapes_to_compile(plan.new, device=means.device))


def work_through(queue: CohortQueue, tally: Tally, *, means: Means, ready: Callable[[], None] = lambda: None) -> bool:
    """Train what a queue has; true when somebody interrupted.

    Args:
        queue: the cohorts.
        tally: told of every pulse.
        means: with what to train.
        ready: waits for what was begun earlier.

    Raises:
        OrchestratorError: training cannot go on at all.
    """
    tally.watch(queue)
    try:
        ready()
        if means.launcher == "inline":
            from orchestrator.inline import train_inline

            train_inline(queue, on_pulse=tally.hear)
        else:
            from orchestrator.tune import train_with_ray

            gpus = float(means.device == "cuda") if means.gpus is None else means.gpus
            train_with_ray(queue, workers=means.workers, cpus=means.cpus, gpus=gpus, on_pulse=tally.hear)
    except KeyboardInterrupt:
        return True
    if queue.halted:
        raise OrchestratorError(queue.halted)
    return not queue.is_over


def damaged_states(store: Store, used: Collection[str]) -> int:
    """Checkpoint files that nothing can be read from."""
    found = 0
    for path in store.files("checkpoints", ".npz"):
        if path.name not in used:
            try:
                with read_arrays(path):
                    pass
            except StoreError:
                found += path.exists()
    return found


class Tally:
    """Adds the pulses of all cohorts up to what the view shows.

    Args:
        plan: what is to be trained; it says how much of the budgets will be used.
        view: where progress is shown.
        growth: of a search, which has more to ask.
    """

    def __init__(self, plan: Plan, view: ProgressView, *, growth: Growing | None = None):
        self._view, self._total, self._growth = view, len(plan.new), growth
        self._share = plan.expected_run_steps / plan.run_steps if plan.new else 1.0
        trains_s = plan.duration.expected_s - plan.outlook.startup_s if plan.duration else 0.0
        self._planned_pace = plan.expected_run_steps / trains_s if trains_s > 0 else None
        self._marks: deque[tuple[float, int]] = deque()
        self.afresh = 0
        self._first: float | None = None  # when a worker began to train
        self._last = 0.0

    def watch(self, queue: CohortQueue) -> None:
        """Follow a queue from now on."""
        self._queue, self._watched = queue, time.monotonic()

    @property
    def was_calm(self) -> bool:
        """Whether workers had their processors to themselves; otherwise their times say nothing of the machine."""
        pulses = self._queue.pulses.values()
        return sum(pulse.cpu_s for pulse in pulses) >= CALM * sum(pulse.seconds for pulse in pulses)

    def startup_s(self, *, ended: float) -> float | None:
        """Seconds in which no worker trained: before the first did, and after the last."""
        return None if self._first is None else (self._first - self._watched) + (ended - self._last)

    def hear(self, pulse: Pulse) -> None:
        """Take in a pulse."""
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last - pulse.seconds
            self._marks.append((self._first, 0))
        self.show()

    def show(self) -> None:
        """Show where things stand."""
        pulses = list(self._queue.pulses.values())
        self.afresh = sum(pulse.afresh for pulse in pulses)
        done = sum(pulse.finished + pulse.diverged for pulse in pulses)
        running = sum(pulse.running for pulse in pulses)
        trained = sum(pulse.run_steps for pulse in pulses)
        left = sum(pulse.steps_left for pulse in pulses)
        left += self._queue.unheard_steps + (self._growth.unasked_steps if self._growth else 0)
        total = self._growth.total if self._growth else self._total
        pace, span = self._pace(trained)
        guess = pace if span >= SURE_S or self._planned_pace is None else self._planned_pace
        self._view.update(
            Snapshot(
                done=done,
                running=running,
                waiting=max(0, total - done - running - self._queue.failed),
                events=sum(pulse.events for pulse in pulses),
                diverged=sum(pulse.diverged for pulse in pulses),
                failed=self._queue.failed,
                run_steps_done=trained,
                run_steps_total_estimate=trained + round(self._share * left),
                run_steps_per_s=pace,
                seconds_left=self._share * left / guess if guess > 0 else None,
                note=self._note(),
                total=total if self._growth else 0,
                trials=self._growth.said if self._growth else "",
            )
        )

    def _note(self) -> str:
        lost = self._queue.lost_workers
        notes = [f"{lost} {'worker' if lost == 1 else 'workers'} lost, their cohorts went on"] if lost else []
        notes += [afresh_note(self.afresh)] if self.afresh else []
        return "; ".join([*notes, *accelerators_note(self._queue.pulses.values())])

    def _pace(self, trained: int) -> tuple[float, float]:
        """Run-steps a second over the last seconds, and over how many."""
        now = time.monotonic()
        self._marks.append((now, trained))
        while len(self._marks) > 2 and now - self._marks[0][0] > PACE_S:
            self._marks.popleft()
        then, before = self._marks[0]
        return (trained - before) / (now - then) if now > then else 0.0, now - then


def accelerators_note(pulses: Iterable[Pulse]) -> list[str]:
    """What the accelerators of those that train are doing, in a few words; workers that share one say the same."""
    told = [pulse for pulse in pulses if pulse.gpu_total_gib and not pulse.over]
    if not told:
        return []
    busy = sum(pulse.gpu_busy for pulse in told) / len(told)
    used, total = (sum(getattr(pulse, name) for pulse in told) / len(told) for name in ("gpu_gib", "gpu_total_gib"))
    return [f"accelerators {busy:.0%} busy, {used:.1f} of {total:.0f} GiB used"]


def outcome_of(store: Store, plan: Plan, *, began: float, interrupted: bool, afresh: int, damaged: int) -> RunOutcome:
    """What became of a plan, by the ledger; runs that another command brought count, too."""
    after = store.statuses()
    wanted = {run.run_id for run in plan.new}
    added = [after[run] for run in wanted if run in after]
    return RunOutcome(
        trained=len(added),
        already=plan.already,
        failed_before=sum(after.get(run.run_id) == "failed" for run in plan.sweep.runs) - added.count("failed"),
        failed=added.count("failed"),
        diverged=added.count("diverged"),
        events=store.online_events(wanted),
        seconds=time.monotonic() - began,
        interrupted=interrupted or len(added) < len(wanted),
        afresh=afresh,
        damaged=damaged,
    )
