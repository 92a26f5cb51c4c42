"""From a sweep, a store and this machine to a plan: the one way in, for `eureka plan` and for `eureka run`."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.code import compiled_seconds, shapes_to_compile
from orchestrator.errors import BadRequest
from orchestrator.outlook import DEFAULT_WIDTH, END_APART, Outlook, expected_steps, seconds_per_run_step
from orchestrator.plan import Plan, make_plan, missing, usable_cores
from orchestrator.rates import (
    RATE_S,
    WIDTHS_S,
    can_measure,
    candidates,
    choose_width,
    gpu_rates,
    known_rates,
    measured_rates,
)
from orchestrator.remembered import recall, remember
from orchestrator.sweep import Sweep
from workloads.spec import RunSpec
from workloads.tasks.task import require_files

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.store import Store

MEASURES_S = 10.0  # all measurements of one plan; shapes beyond that are taken for the mean of the others [s]
LONG_RUN_STEPS = 20_000  # a shape with less to train is not worth comparing widths for [run-steps]
LEARNED = 4.0
BEGINNINGS = {  # until this machine has learned its own
    "startup_s": {"ray": 8.0, "inline": 0.5},  # of a sweep, in which no worker trains [s]
    "slowdown": {"ray": 1.2, "inline": 1.0},  # of a step beside other workers and Ray, against a step alone
}
LEDGER_COLUMNS = (
    "run_id", "config_id", "shape_key", "status", "steps", "seconds", "device", "budget.steps", "stop.after_event_steps"
)  # fmt: skip

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Means:
    """With what a sweep is trained.

    Attributes:
        device: `cpu` or `cuda`.
        workers: processes that train at once.
        launcher: `ray` or `inline`.
        width: slots of a cohort, where the user says [runs].
        measures: rates may be measured: `all` that are missing, only those of `long` shapes, or `none`.
        note: told what takes a moment.
        cpus, gpus: that a cluster keeps for each worker; the device's own need unless given.
    """

    device: str = "cpu"
    workers: int = 1
    launcher: str = "ray"
    width: int | None = None
    measures: str = "none"
    note: Note = lambda text: None
    cpus: float = 1.0
    gpus: float | None = None


def means_of(
    *, device: str, workers: int | None, launcher: str, width: int | None, measures: str, note: Note | None = None
) -> Means:
    """What the user asked for, with the machine's own answers where nothing was said.

    Raises:
        BadRequest: a device that is not there.
    """
    return Means(
        device=chosen_device(device),
        workers=1 if launcher == "inline" else workers or usable_cores(),
        launcher=launcher,
        width=width,
        measures=measures if can_measure() else "none",
        note=note or (lambda text: None),
    )


def plan_sweep(sweep: Sweep, *, store: Store | None, means: Means, retry_failed: bool = False) -> Plan:
    """What `eureka run` would do now, with these means.

    Args:
        sweep: the question.
        store: where runs are kept; None where there is none yet.
        means: device, workers, width.
        retry_failed: train the runs again whose row says `failed`.
    """
    stored = store.statuses() if store else {}
    new = require_needs(sweep, store=store, retry_failed=retry_failed)
    ledger = store.runs_table(columns=list(LEDGER_COLUMNS)) if store and stored and new else None
    plan = make_plan(
        sweep,
        stored=stored,
        workers=means.workers,
        outlook=foresee(new, ledger=ledger, means=means),
        saved=store.checkpoints.furthest() if store and new else (),
        retry_failed=retry_failed,
    )
    if plan.already or not plan.new:  # another program is another run: what is stored would be trained again
        return plan
    return replace(plan, compiled_s=compiled_seconds(plan.new, duration=plan.duration, device=means.device))


def require_needs(sweep: Sweep, *, store: Store | None, retry_failed: bool = False) -> tuple[RunSpec, ...]:
    """The runs that a store lacks, when what they need is there.

    Raises:
        BadRequest: a fork's snapshot is not in the store.
        WorkloadError: pictures or texts are not on this machine.
    """
    new = missing(sweep, stored=store.statuses() if store else {}, retry_failed=retry_failed)
    require_sources(new, store=store)
    require_data(new)
    return new


def require_sources(runs: Sequence[RunSpec], *, store: Store | None) -> None:
    """Forks need the snapshots that they start from.

    Raises:
        BadRequest: one is not in the store.
    """
    forks = [run.start_from for run in runs if run.start_from is not None]
    there = set(store.snapshots.there()) if store and forks else set()
    lacking = [fork for fork in forks if (fork.run, fork.step) not in there]
    if lacking:
        first, where = lacking[0], f"{store.path}" if store else "the store, which does not exist yet"
        steps = [step for run, step in sorted(there) if run == first.run]
        kept = f"those kept are {', '.join(map(str, steps))}" if steps else "train that run first, with log.snapshots"
        more = f" ({len(lacking)} runs lack theirs)" if len(lacking) > 1 else ""
        raise BadRequest(
            f"start_from: got run {first.run}, step {first.step}; expected a snapshot in {where}: {kept}{more}"
        )


def require_data(runs: Sequence[RunSpec]) -> None:
    """Pictures and texts that runs need are on this machine; a cluster's workers have folders of their own.

    Raises:
        WorkloadError: some are not, or are damaged.
    """
    if os.environ.get("RAY_ADDRESS"):
        return
    for task in {run.task for run in runs}:
        require_files(task)


def foresee(runs: Sequence[RunSpec], *, ledger: pa.Table | None, means: Means) -> Outlook:
    """What can be known of runs before they are trained.

    Rates come from the ledger, since it knows the company that runs really had, else from this machine's
    memory, else from a measurement. Widths come from the memory or a measurement, unless the user says.
    """
    seen = seconds_per_run_step(ledger, device=means.device)
    counts = Counter(run.shape_key for run in runs)
    steps = Counter[str]()
    for run in runs:
        steps[run.shape_key] += run.budget.steps
    stoppable = {run.shape_key for run in runs if run.stop.after_event_steps is not None}
    rates, widths = dict[str, float](), dict[str, int]()
    slowdown, until = _known("slowdown", means), time.monotonic() + MEASURES_S
    for shape, first in {run.shape_key: run for run in reversed(runs)}.items():
        company = math.ceil(counts[shape] / math.ceil(means.workers * steps[shape] / steps.total()))
        means = means if time.monotonic() < until else replace(means, measures="none")
        found = _rates_of(
            first, company=company, is_long=steps[shape] >= LONG_RUN_STEPS, is_timed=shape in seen, means=means
        )
        apart = END_APART if shape in stoppable else 0.0
        widths[shape] = means.width or choose_width(found, device=means.device, company=company, apart=apart)
        if shape in seen:
            rates[shape] = seen[shape]
        elif found:
            nearest = min(found, key=lambda width: abs(width - min(widths[shape], company)))
            rates[shape] = slowdown * found[nearest]
    if rates and means.measures == "none" and time.monotonic() >= until:
        rates = dict.fromkeys(counts, sum(rates.values()) / len(rates)) | rates
    return Outlook(
        expected_steps=expected_steps(runs, ledger=ledger),
        seconds_per_run_step=rates,
        widths=widths,
        width=means.width or DEFAULT_WIDTH[means.device],
        startup_s=_known("startup_s", means),
    )


def _rates_of(spec: RunSpec, *, company: int, is_long: bool, is_timed: bool, means: Means) -> dict[int, float]:
    """Rates of a shape by width, as far as they are known or worth measuring; not worth it is compiling first."""
    if means.device == "cuda" and not means.width:
        return gpu_rates(spec, note=means.note if is_long and means.measures != "none" else None)
    known = known_rates(spec, device=means.device)
    wanted = candidates(device=means.device, company=company)
    if means.width or not is_long:
        wanted = (min(means.width or DEFAULT_WIDTH[means.device], company),)
    lacking = [width for width in wanted if width not in known]
    is_idle = len(wanted) == 1 and (is_timed or not (is_long or means.measures == "all"))
    if lacking and means.measures != "none" and not is_idle and not shapes_to_compile([spec], device=means.device):
        seconds = WIDTHS_S if len(wanted) > 1 else RATE_S if is_long else RATE_S / 2
        means.note(f"timing a step of shape {spec.shape_key[:8]}, {seconds:g} s …")
        known |= measured_rates(spec, widths=wanted, device=means.device, seconds=seconds)
    return {width: rate for width, rate in known.items() if rate is not None}


def learn(plan: Plan, *, means: Means, startup_s: float | None, ledger: pa.Table | None) -> None:
    """Remember what a sweep that has run says of the next one's time.

    Args:
        plan: what was trained.
        means: with what.
        startup_s: seconds of it in which no worker trained; None is unknown [s].
        ledger: RUNS rows that hold the plan's runs.
    """
    if startup_s is not None:
        _learn("startup_s", startup_s, means)
    trained = {run.run_id for run in plan.new}
    if ledger is None or sum(run.budget.steps for run in plan.new) < LONG_RUN_STEPS:
        return
    import pyarrow as pa
    import pyarrow.compute as pc

    own = ledger.filter(pc.is_in(ledger["run_id"], pa.array(sorted(trained))))
    real = seconds_per_run_step(own, device=means.device)
    slower = []
    for shape, first in {run.shape_key: run for run in plan.new}.items():
        alone = known_rates(first, device=means.device).get(plan.outlook.width_of(shape))
        if alone and shape in real:
            slower.append(real[shape] / alone)
    if slower:
        _learn("slowdown", sum(slower) / len(slower), means)


def _known(what: str, means: Means) -> float:
    """What earlier sweeps taught, or the value to begin with."""
    return recall(what).get(_place(means)) or BEGINNINGS[what][means.launcher]


def _learn(what: str, value: float, means: Means) -> None:
    """Go half of the way to what a sweep showed, within a factor of LEARNED: one sweep is no law."""
    start = BEGINNINGS[what][means.launcher]
    value = min(LEARNED * start, max(start / LEARNED, value))
    remember(what, {_place(means): math.sqrt(_known(what, means) * value)})


def chosen_device(wanted: str) -> str:
    """`cpu` or `cuda`, for one of those or `auto`.

    Raises:
        BadRequest: another word, or no CUDA device is there.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise BadRequest(f"--device: got '{wanted}'; expected one of auto, cpu, cuda")
    if wanted == "cpu" or (wanted == "auto" and not _may_have_cuda()):
        return "cpu"
    if wanted == "cuda" and os.environ.get("RAY_ADDRESS"):  # the workers' machines have one; this need not
        return "cuda"
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise BadRequest("--device: got 'cuda'; torch sees none here. Take --device cpu, or a CUDA build of torch")
    return "cuda" if there else "cpu"


def _may_have_cuda() -> bool:
    """Whether it is worth the second that importing torch takes to ask it."""
    return not Path("/proc").exists() or any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists()


def _place(means: Means) -> str:
    """Where and how workers run, as far as start-up and slowdown depend on it."""
    where = "cluster" if os.environ.get("RAY_ADDRESS") else f"{means.workers} of {usable_cores()} cores"
    return f"{means.launcher} | {means.device} | {where}"
