"""Run-steps a second on one core: the cohort engine against the same runs as eager modules, one after another.

Both sides draw the same data with the same code and record loss and accuracy at every step; the
engine also records gradient norms and runs its online event rule, the modules do not. The dearer
measures are off on both sides.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from orchestrator.sweep import load_sweep
from tests.benchmarks.plain_runs import PlainRun
from tests.benchmarks.timing import interleaved, keep, machine, spread, table
from workloads import cohort as engine
from workloads.cohort import Cohort
from workloads.spec import RunSpec

QUICKSTART = Path(__file__).parents[2] / "orchestrator" / "sweeps" / "quickstart.yaml"
WIDTHS = (1, 4, 8, 16)
FORMS = {"eager module": False, "eager module, read-out alone in its last block": True}
TITLE = "Engine: run-steps a second on one core"


def endless_runs() -> tuple[RunSpec, ...]:
    """The quickstart's runs, going on for as long as one likes."""
    endless = ["base.budget.steps=1000000", "stop.after_event_steps=null", "log.measures_every_steps=0"]
    return load_sweep(QUICKSTART, overrides=endless).runs


def cohort_work(width: int, *, run_steps: int) -> Callable[[], int]:
    cohort = Cohort(endless_runs()[:width], width=width)
    ticks = run_steps // width

    def work() -> int:
        cohort.advance(ticks=ticks)
        return ticks * width

    return work


def module_work(*, run_steps: int, read_out_alone: bool) -> Callable[[], int]:
    """Runs one after another, as a sweep in one process would."""
    runs = cycle([PlainRun(spec, read_out_alone=read_out_alone) for spec in endless_runs()[:8]])

    def work() -> int:
        run = next(runs)
        for _ in range(run_steps):
            run.step()
        return run_steps

    return work


def compare(*, rounds: int, run_steps: int) -> str:
    """The table of speeds and ratios."""
    torch.set_num_threads(1)
    contestants = {f"cohort of {width}": cohort_work(width, run_steps=run_steps) for width in WIDTHS}
    for form, read_out_alone in FORMS.items():
        contestants[form] = module_work(run_steps=run_steps, read_out_alone=read_out_alone)
    speeds = interleaved(contestants, rounds=rounds)
    rows = []
    for name, found in speeds.items():
        ratios = [
            [mine[clock] / other[clock] for mine, other in zip(found, speeds[form], strict=True)]
            for form in FORMS
            for clock in (0, 1)
        ]
        own = [spread([speed[clock] for speed in found], digits=0) for clock in (0, 1)]
        rows.append([name, *own, *map(spread, ratios)])
    header = ["", "per CPU second", "per wall second", "÷ module, CPU", "÷ module, wall"]
    header += ["÷ read-out form, CPU", "÷ read-out form, wall"]
    note = f"{rounds} rounds of {run_steps} run-steps each, in turns; median (quartiles), ratios within a round."
    return f"{machine()}.\nThe quickstart's runs. {note}\n\n{table(header, rows)}"


# -- where a tick's time goes --------------------------------------------------------------------


class Stopwatch:
    """Adds up the time inside calls; inner calls are taken out of outer ones."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrapped(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            began = perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                took = perf_counter() - began
                self.seconds[part] += took - self._inner.pop()
                self._inner[-1] += took

        return timed


@contextmanager
def timed_parts(cohort: Cohort) -> Iterator[Stopwatch]:
    watch = Stopwatch()
    grad, norm_clip = torch.autograd.grad, engine.clip
    parts = [
        (cohort, "_draw", "data: draw blocks"),
        (cohort, "_feed", "data: gather a batch"),
        (cohort, "_controls", "controls"),
        (cohort.task.__class__, "objective", "forward: loss"),
        (cohort.model, "forward", "forward: model"),
        (cohort.optimiser, "step", "optimiser"),
        (cohort.watch, "update", "event rule"),
        (cohort, "_collect", "ends, refill"),
        (cohort, "_tick", "norms, ring, counters"),
    ]
    task_objective = cohort.task.__class__.objective
    for owner, name, part in parts:
        setattr(owner, name, watch.wrapped(part, getattr(owner, name)))
    torch.autograd.grad = watch.wrapped("backward", grad)
    engine.clip = watch.wrapped("clip", norm_clip)
    try:
        yield watch
    finally:
        torch.autograd.grad, engine.clip = grad, norm_clip
        cohort.task.__class__.objective = task_objective


def profile(*, width: int, ticks: int) -> str:
    """Shares of a tick, a part a row."""
    cohort = Cohort(endless_runs()[:width], width=width)
    cohort.advance(ticks=32)
    with timed_parts(cohort) as watch:
        began = perf_counter()
        cohort.advance(ticks=ticks)
        whole = perf_counter() - began
    parts = sorted(watch.seconds.items(), key=lambda item: -item[1])
    rows = [[part, f"{100 * took / whole:.1f} %", f"{1e6 * took / ticks:.0f}"] for part, took in parts]
    rows.append(["together", "100 %", f"{1e6 * whole / ticks:.0f}"])
    return f"A tick of a cohort of {width}.\n\n{table(['part', 'share', 'µs a tick'], rows)}"


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="fewer rounds")
    options.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    options.add_argument("--profile", action="store_true", help="where a tick's time goes, instead")
    given = options.parse_args(argv)
    if given.profile:
        text = "\n\n".join(profile(width=width, ticks=1600 // width) for width in (1, 8))
        title = "Engine: where a tick's time goes"
    else:
        text = compare(rounds=4 if given.quick else 15, run_steps=160 if given.quick else 480)
        title = TITLE
    print(text)
    if given.write:
        keep(title, text)


if __name__ == "__main__":
    main()
