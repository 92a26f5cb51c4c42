"""Runs a sweep into a store: plan, train what is missing, say what happened.

Running the same sweep again is how everything is resumed: what is in the ledger is done, what has
a saved state goes on from it, the rest begins.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.store import Store
from orchestrator.errors import BadRequest, OrchestratorError
from orchestrator.plan import DEFAULT_WIDTH, CohortPlan, pack, usable_cores
from orchestrator.progress import ProgressView, Snapshot
from orchestrator.queue import CohortQueue
from orchestrator.sweep import Sweep
from orchestrator.worker import Pulse
from workloads.spec import RunSpec

LAUNCHERS = ("ray", "inline")
CHECKPOINT_S = 15.0
PACE_S = 20.0  # the speed shown is that of so many seconds


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
    """

    trained: int
    already: int
    failed_before: int
    failed: int
    diverged: int
    events: int
    seconds: float
    interrupted: bool


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
) -> RunOutcome:
    """Train the runs of a sweep that the store has not.

    Args:
        sweep: the question.
        store_path: the store; made if there is none.
        launcher: `ray`, or `inline` for one process without it.
        width: slots of a cohort; None leaves it to the device.
        workers: processes on this machine; None is one a core.
        device: `cpu`, `cuda`, or `auto` for the better of what is there.
        retry_failed: train runs again that have a failed row.
        view: where progress is shown.
        checkpoint_s: how often a cohort saves its unfinished runs [s].

    Raises:
        BadRequest: an unknown launcher or device.
        StoreError: the store is not one, or cannot be written.
        OrchestratorError: training cannot go on at all.
    """
    if launcher not in LAUNCHERS:
        raise BadRequest(f"--launcher: got '{launcher}'; expected one of {', '.join(LAUNCHERS)}")
    began = time.monotonic()
    store = Store.create(store_path)
    store.save_sweep(sweep.record())
    if retry_failed:
        store.forget_failed([run.run_id for run in sweep.runs])
    before = dict(store.statuses())
    missing = [run for run in sweep.runs if run.run_id not in before]
    view = view or ProgressView(quiet=True)
    view.start(len(missing), len(sweep.runs) - len(missing))
    interrupted = False
    try:
        if missing:
            interrupted = _train(
                missing, sweep.name, store, launcher=launcher, device=_device(device), width=width,
                workers=workers or usable_cores(), view=view, checkpoint_s=checkpoint_s,
            )  # fmt: skip
    finally:
        view.stop()
    store.drop_spent_states()
    return _outcome(store, sweep.runs, missing, began=began, interrupted=interrupted)


def _train(
    missing: Sequence[RunSpec],
    name: str,
    store: Store,
    *,
    launcher: str,
    device: str,
    width: int | None,
    workers: int,
    view: ProgressView,
    checkpoint_s: float,
) -> bool:
    """Train the missing runs; true when somebody interrupted."""
    width = width or DEFAULT_WIDTH[device]
    workers = 1 if launcher == "inline" else workers
    saved = store.saved_states()
    ordered = sorted(missing, key=lambda run: run.run_id not in saved)  # those under way come first
    cohorts: Sequence[CohortPlan] = pack(ordered, width=width, workers=workers)
    settings = {"width": width, "device": device, "checkpoint_s": checkpoint_s}
    queue = CohortQueue(store=store, sweep=name, cohorts=cohorts, settings=settings)
    tally = Tally(queue, view, total=len(missing))
    try:
        if launcher == "inline":
            from orchestrator.inline import train_inline

            train_inline(queue, on_pulse=tally.hear)
        else:
            from orchestrator.tune import train_with_ray

            train_with_ray(queue, workers=workers, gpus=float(device == "cuda"), on_pulse=tally.hear)
    except KeyboardInterrupt:
        return True
    if queue.halted:
        raise OrchestratorError(queue.halted)
    return not queue.is_over


class Tally:
    """Adds the pulses of all cohorts up to what the view shows."""

    def __init__(self, queue: CohortQueue, view: ProgressView, *, total: int):
        self._queue, self._view, self._total = queue, view, total
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def hear(self, _: Pulse) -> None:
        """Show where things stand."""
        pulses = list(self._queue.pulses.values())
        done = sum(pulse.finished + pulse.diverged for pulse in pulses)
        running = sum(pulse.running for pulse in pulses)
        trained = sum(pulse.run_steps for pulse in pulses)
        heard = self._queue.pulses
        left = sum(pulse.steps_left for pulse in pulses)
        for cohort in (*self._queue.ready, *self._queue.out.values()):
            if cohort.cohort_id not in heard:
                left += sum(spec.budget.steps for spec in cohort.members)
        pace = self._pace(trained)
        lost = self._queue.lost_workers
        self._view.update(
            Snapshot(
                done=done,
                running=running,
                waiting=max(0, self._total - done - running - self._queue.failed),
                events=sum(pulse.events for pulse in pulses),
                diverged=sum(pulse.diverged for pulse in pulses),
                failed=self._queue.failed,
                run_steps_done=trained,
                run_steps_total_estimate=trained + left,
                run_steps_per_s=pace,
                seconds_left=left / pace if pace > 0 else None,
                note=f"{lost} {'worker' if lost == 1 else 'workers'} lost, their cohorts went on" if lost else "",
            )
        )

    def _pace(self, trained: int) -> float:
        """Run-steps a second, over the last seconds."""
        now = time.monotonic()
        self._marks.append((now, trained))
        while len(self._marks) > 2 and now - self._marks[0][0] > PACE_S:
            self._marks.popleft()
        then, before = self._marks[0]
        return (trained - before) / (now - then) if now > then else 0.0


def _device(wanted: str) -> str:
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise BadRequest(f"--device: got '{wanted}'; expected one of auto, cpu, cuda")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise BadRequest("--device: got 'cuda'; torch sees none here. Take --device cpu, or a CUDA build of torch")
    return ("cuda" if there else "cpu") if wanted == "auto" else wanted


def _outcome(
    store: Store, runs: Sequence[RunSpec], missing: Sequence[RunSpec], *, began: float, interrupted: bool
) -> RunOutcome:
    after = store.statuses()
    wanted = {run.run_id for run in missing}
    added = [after[run] for run in wanted if run in after]
    return RunOutcome(
        trained=len(added),
        already=len(runs) - len(missing),
        failed_before=sum(after.get(run.run_id) == "failed" for run in runs) - added.count("failed"),
        failed=added.count("failed"),
        diverged=added.count("diverged"),
        events=store.online_events(wanted),
        seconds=time.monotonic() - began,
        interrupted=interrupted or len(added) < len(wanted),
    )
