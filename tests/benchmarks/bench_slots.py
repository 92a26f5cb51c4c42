"""What the engine's bookkeeping costs: a refill, occupied slots, and every metric of every step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

from analysis.store import Store
from orchestrator.worker import ledger_row, outcome_curve
from tests.benchmarks.reference import reference_run
from tests.benchmarks.timing import machine, options, spread, table, tell
from workloads.cohort import Cohort, Outcome
from workloads.fields import column_types

TITLE = "Slots and metrics"
WIDTH = 16


@contextmanager
def timed_calls(owner: Any, name: str) -> Iterator[list[float]]:
    """Seconds of each call of a method."""
    seconds: list[float] = []
    call: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            seconds.append(perf_counter() - began)

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        delattr(owner, name)


def trained(cohort: Cohort) -> tuple[list[Outcome], float]:
    """All outcomes; and the share of lanes that had a run while members were waiting."""
    outcomes: list[Outcome] = []
    occupied = lanes = 0
    while cohort.running:
        if cohort.waiting:
            occupied, lanes = occupied + len(cohort.running), lanes + cohort.width
        outcomes += cohort.advance(ticks=1)
    return outcomes, occupied / max(1, lanes)


def refills(*, runs: int) -> list[list[str]]:
    """Runs of very different lengths through one cohort."""
    lengths = [40 + 60 * (k * 7 % 11) for k in range(runs)]
    members = [reference_run("tiny", seed=k, steps=steps) for k, steps in enumerate(lengths)]
    cohort = Cohort(members, width=WIDTH)
    with timed_calls(cohort, "_refill") as seconds, timed_calls(cohort.lanes, "tick") as ticks:
        began = process_time()
        _, occupancy = trained(cohort)
        whole = process_time() - began
    given = [1e3 * value for value in seconds[: runs - WIDTH]]
    return [
        ["refill of a slot [ms]", spread(given, digits=2)],
        ["share of the training time", f"{100 * sum(seconds) / whole:.2f} %"],
        ["lanes with a run while any waits", f"{100 * occupancy:.1f} %"],
        ["a tick of all lanes [ms]", spread([1e3 * value for value in ticks], digits=1)],
    ]


def metrics(*, steps: int) -> list[list[str]]:
    """From the device's ring to committed Parquet, against the time of training."""
    cohort = Cohort([reference_run("tiny", seed=k, steps=steps) for k in range(WIDTH)], width=WIDTH)
    with timed_calls(cohort, "_flush") as flushes, timed_calls(cohort.lanes.ring, "index_copy_") as writes:
        began = process_time()
        outcomes, _ = trained(cohort)
        training = process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(folder)
        rows, curves = [ledger_row(outcome) for outcome in outcomes], [outcome_curve(outcome) for outcome in outcomes]
        types = column_types(outcomes[0].spec)
        began = process_time()
        store.commit(rows, curves, types=types)
        commit = process_time() - began
    kept = sum(flushes) + sum(writes)
    return [
        ["ring and fetch, share of training", f"{100 * kept / training:.2f} %"],
        [f"commit of {WIDTH} runs × {steps} steps, CPU [ms a run]", f"{1e3 * commit / WIDTH:.1f}"],
        ["commit, share of training", f"{100 * commit / training:.2f} %"],
    ]


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="fewer runs")
    given = asked.parse_args(argv)
    rows = refills(runs=48 if given.quick else 160) + metrics(steps=200 if given.quick else 2000)
    text = f"{machine()}.\nCohorts of {WIDTH} runs of tiny, eager, one core.\n\n{table(['', ''], rows)}"
    tell(TITLE, text, is_kept=given.write)


if __name__ == "__main__":
    main()
