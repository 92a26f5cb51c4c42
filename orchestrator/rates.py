"""What a step of a run costs on this machine, and which width makes it cheapest: measured once, then remembered.

A scratch cohort of the shape trains for a second or two: other runs, the same tensors. On CPU a run has
the same bits at every width, so the width is free to be chosen by speed. On CUDA it is part of the
result, and is chosen once for a shape, a device and an engine.

On CUDA the table of `workloads/capacity.py` says both, and how many lanes fit at all.

Processor time is measured, not wall time, so that others' load does not decide. No model of the caches does,
either: the rows of two quickstart runs fill an L2 cache of 1 MiB, yet a step got cheaper up to 32 runs a
cohort, since it is the start of each operation that is spread over them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.outlook import DEFAULT_WIDTH, END_APART
from orchestrator.remembered import recall, remember
from workloads.source import source_digest
from workloads.spec import RunSpec, resolve

if TYPE_CHECKING:
    from workloads.cohort import Cohort

WIDTHS = (4, 8, 16, 32)  # tried on CPU
TOLERANCE = 0.03
WIDTHS_S = 2.5  # how long it may take to compare widths [s]
RATE_S = 1.0  # … to time one width [s]
WARM_TICKS, ROUND_TICKS = 3, 4
ENDLESS = 2**31 - 1

Rates = dict[int, float]  # width -> seconds a run-step


def can_measure() -> bool:
    """Whether workers will train on this machine, and not on a cluster's."""
    return not os.environ.get("RAY_ADDRESS")


def candidates(*, device: str, company: int) -> tuple[int, ...]:
    """Widths to choose from.

    Args:
        device: `cpu` or `cuda`.
        company: runs that a worker will have of this shape; wider cohorts cannot be filled.
    """
    if device != "cpu":
        return (min(DEFAULT_WIDTH[device], company),)
    return tuple(width for width in WIDTHS if width <= company) or (max(1, company),)


def choose_width(rates: Mapping[int, float], *, device: str, company: int, apart: float = END_APART) -> int:
    """Slots of a cohort; the default where rates are missing.

    Wide cohorts make a step cheaper, and let workers end further apart: with `company` runs a worker, by
    `apart` times width / company of its time. Of the widths whose time comes within TOLERANCE of the
    shortest it is the smallest.

    Args:
        rates: seconds a run-step, by width.
        device: `cpu` or `cuda`.
        company: runs that a worker will have of the shape.
        apart: how far apart workers end [of the longest run's time]; 0 where all runs take their whole budget.
    """
    ends = {
        width: rates[width] * (1.0 + apart * width / company)
        for width in candidates(device=device, company=company)
        if width in rates
    }
    if device != "cpu" and rates:
        return min(rates, key=lambda width: rates[width])
    if not ends:
        return DEFAULT_WIDTH[device]
    return min(width for width, end in ends.items() if end <= (1.0 + TOLERANCE) * min(ends.values()))


def known_rates(spec: RunSpec, *, device: str) -> dict[int, float | None]:
    """What this machine remembers of a shape; None for a width that took too long to try."""
    start = _key(spec, device=device)
    found = recall("seconds_per_run_step").items()
    tabled = {} if device == "cpu" else gpu_rates(spec)
    return tabled | {int(key.removeprefix(start)): rate for key, rate in found if key.startswith(start)}


def measured_rates(spec: RunSpec, *, widths: Sequence[int], device: str, seconds: float) -> Rates:
    """Measure, and remember; a shape that cannot be trained has no rates."""
    try:
        rates = measure(spec, widths=widths, device=device, seconds=seconds)
    except Exception:  # the same fault will meet the sweep's own workers, which turn it into rows
        return {}
    start = _key(spec, device=device)
    remember("seconds_per_run_step", {f"{start}{width}": rates.get(width) for width in widths})
    return rates


def gpu_rates(spec: RunSpec, *, note: Callable[[str], None] | None = None) -> Rates:
    """What a step costs at each width that fits the GPU; measured where unknown, if there is a `note` to tell."""
    import torch

    from workloads.capacity import known_table, measured_table

    device = torch.device("cuda")
    rows = known_table(spec, device=device)
    if not rows and note:
        note(f"timing widths of shape {spec.shape_key[:8]} …")
        with contextlib.suppress(Exception):  # the same fault will meet the sweep's own workers
            rows = measured_table(spec, device=device)
    return {row.width: 1.0 / row.run_steps_per_s for row in rows if row.run_steps_per_s > 0.0}


def measure(spec: RunSpec, *, widths: Sequence[int], device: str, seconds: float) -> Rates:
    """Train scratch cohorts in turns.

    Args:
        spec: any run of the shape.
        widths: ascending; those that are too large to be tried in the time are left out.
        device: where to train.
        seconds: about how long, up to twice that on a busy machine [s]; what was begun is finished.

    Returns:
        Median cost of a run's step at each width [s].
    """
    from workloads.cohort import Cohort

    clock = time.thread_time if device == "cpu" else time.perf_counter
    end, latest = clock() + seconds, time.monotonic() + 2.0 * seconds
    scratch: dict[int, Cohort] = {}
    costs: dict[int, list[float]] = {}
    for width in widths:
        scratch[width] = Cohort(_strangers(spec, width), width=width, device=device)
        scratch[width].advance(ticks=WARM_TICKS)
        costs[width] = [_cost(scratch[width], clock)]
        next_s = 2.0 * width * (WARM_TICKS + ROUND_TICKS) * costs[width][0]  # of the next width, which is the double
        if 2.0 * next_s > end - clock():
            break
    while clock() < end and time.monotonic() < latest:
        for width, cohort in scratch.items():
            costs[width].append(_cost(cohort, clock))
    return {width: statistics.median(found) for width, found in costs.items()}


def _cost(cohort: Cohort, clock: Callable[[], float]) -> float:
    """Of one run-step, over a few ticks [s]."""
    began, before = clock(), cohort.run_steps
    cohort.advance(ticks=ROUND_TICKS)
    return max(clock() - began, 1e-9) / (cohort.run_steps - before)


def _strangers(spec: RunSpec, n: int) -> list[RunSpec]:
    """Runs of the same shape that never end: no event stops them, and their rate is too small to diverge."""
    plain = spec.model_dump(mode="json")
    plain["stop"]["after_event_steps"] = None
    plain["budget"]["steps"] = ENDLESS
    plain["start_from"] = None  # the weights do not matter for the time
    if "lr" in plain["optim"]:
        plain["optim"]["lr"] = 1e-9
    return [resolve({**plain, "seed": {"init": seed, "data": seed}}) for seed in range(n)]


def _key(spec: RunSpec, *, device: str) -> str:
    """Everything that a rate depends on, but the width."""
    torch = metadata.version("torch")
    return f"{spec.shape_key} | {_processor(device)} | engine {source_digest()} | torch {torch} | threads 1 | width "


@functools.cache
def _processor(device: str) -> str:
    """The accelerator's or the processor's model."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
