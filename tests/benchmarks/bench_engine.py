"""Run-steps a second on one core: the cohort engine against what people use instead, on the same runs.

The others are eager modules trained one after another with fused AdamW, and a `torch.func` ensemble. All draw the same
data with the same code and record loss and accuracy at every step; the engine also records gradient norms and runs its
online event rule. The dearer measures are off everywhere. Compiling is not in these times: it is paid once a shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from time import perf_counter, process_time
from typing import Any

import torch

from tests.benchmarks.plain_runs import Ensemble, PlainRun
from tests.benchmarks.reference import quickstart_runs, reference_run, step_flop
from tests.benchmarks.timing import interleaved, machine, options, spread, table, tell
from workloads.cohort import Cohort
from workloads.spec import RunSpec

TITLE = "Engine: run-steps a second on one core"
MODULE, READ_OUT, ENSEMBLE = "eager module", "eager module, read-out alone in its last block", "torch.func ensemble"
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int]] = {  # eager widths, compiled, ensemble, run-steps
    "tiny": ((1, 4, 8, 16, 32), (1, 16), 8, 480),
    "main": ((1, 4, 8), (1, 8), 4, 48),
    "mid": ((1, 4), (1, 4), 4, 4),
    "quickstart": ((1, 4, 8, 16), (1, 8), 8, 480),
}


def members(case: str, n: int, *, program: str) -> list[RunSpec]:
    if case == "quickstart":
        runs = quickstart_runs()[:n]
        compute = runs[0].compute.model_copy(update={"program": program})
        return [run.model_copy(update={"compute": compute}) for run in runs]
    return [reference_run(case, seed=seed, program=program) for seed in range(n)]


def cohort_work(runs: Sequence[RunSpec], *, run_steps: int) -> Callable[[], int]:
    cohort = Cohort(runs, width=len(runs))
    ticks = max(1, run_steps // len(runs))

    def work() -> int:
        cohort.advance(ticks=ticks)
        return ticks * len(runs)

    return work


def module_work(runs: Sequence[RunSpec], *, run_steps: int, read_out_alone: bool = False) -> Callable[[], int]:
    """Runs one after another, as a sweep in one process would."""
    turn = cycle([PlainRun(spec, read_out_alone=read_out_alone) for spec in runs])

    def work() -> int:
        run = next(turn)
        for _ in range(run_steps):
            run.step()
        return run_steps

    return work


def ensemble_work(runs: Sequence[RunSpec], *, run_steps: int) -> Callable[[], int]:
    ensemble = Ensemble(runs)
    ticks = max(1, run_steps // len(runs))

    def work() -> int:
        for _ in range(ticks):
            ensemble.step()
        return ticks * len(runs)

    return work


def contestants(case: str) -> dict[str, Callable[[], int]]:
    eager, compiled, together, run_steps = CASES[case]
    found = {f"cohort of {k}": cohort_work(members(case, k, program="eager"), run_steps=run_steps) for k in eager}
    for k in compiled:
        found[f"compiled cohort of {k}"] = cohort_work(members(case, k, program="compiled"), run_steps=run_steps)
    runs = members(case, together, program="eager")
    found[f"{ENSEMBLE} of {together}"] = ensemble_work(runs, run_steps=run_steps)
    found[MODULE] = module_work(runs[:4], run_steps=run_steps)
    if case == "quickstart":
        found[READ_OUT] = module_work(runs[:4], run_steps=run_steps, read_out_alone=True)
    return found


def matmul_peak() -> float:
    """What one core's matrix product reaches here and now [FLOP/s]."""
    n = 512
    a, b = torch.randn(n, n), torch.randn(n, n)
    out, best = torch.empty(n, n), float("inf")
    for _ in range(20):
        began = process_time()
        torch.mm(a, b, out=out)
        best = min(best, process_time() - began)
    return 2 * n**3 / best


def compare(case: str, *, rounds: int) -> str:
    """The table of speeds and ratios of one workload; speeds and ratios are of CPU time."""
    torch.set_num_threads(1)
    speeds = interleaved(contestants(case), rounds=rounds)
    flop, peak = step_flop(members(case, 1, program="eager")[0]), matmul_peak()
    ensemble = next(name for name in speeds if name.startswith(ENSEMBLE))
    rows = []
    for name, found in speeds.items():
        own = [cpu for cpu, _ in found]
        ratios = [
            [mine / other for mine, (other, _) in zip(own, speeds[rival], strict=True)] for rival in (MODULE, ensemble)
        ]
        rows.append(
            [
                name,
                spread(own, digits=0),
                *map(spread, ratios),
                f"{100 * sorted(own)[len(own) // 2] * flop / peak:.0f} %",
            ]
        )
    header = [case, "run-steps per CPU second", f"÷ {MODULE}", f"÷ {ensemble}", "of matmul peak"]
    note = f"{rounds} rounds of {CASES[case][3]} run-steps, in turns; median (quartiles), ratios within a round. "
    note += f"A run-step is {flop / 1e6:.1f} MFLOP of products; the peak was {peak / 1e9:.0f} GFLOP/s."
    return f"{note}\n\n{table(header, rows)}"


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
    grad, lanes = torch.autograd.grad, cohort.lanes
    parts = [
        (lanes, "draw", "data: draw blocks"),
        (lanes, "batch", "data: gather a batch"),
        (lanes, "controls", "controls"),
        (cohort.task.__class__, "objective", "forward: loss"),
        (lanes.model, "forward", "forward: model"),
        (lanes.optimiser, "step_rows", "optimiser"),
        (lanes.watch, "update", "event rule"),
        (cohort, "_flush", "metrics: fetch"),
        (cohort, "_collect", "ends, refill"),
        (lanes, "step_on_device", "norms, metric ring, counters"),
        (cohort, "_tick", "turns"),
    ]
    if lanes.spec.compute.program == "compiled":
        parts.append((lanes.program, "call", "compiled code"))
    task_objective = cohort.task.__class__.objective
    for owner, name, part in parts:
        setattr(owner, name, watch.wrapped(part, getattr(owner, name)))
    torch.autograd.grad = watch.wrapped("backward", grad)
    try:
        yield watch
    finally:
        torch.autograd.grad = grad
        cohort.task.__class__.objective = task_objective


def profile(case: str, *, width: int, ticks: int, program: str) -> str:
    """Shares of a tick, a part a row."""
    cohort = Cohort(members(case, width, program=program), width=width)
    cohort.advance(ticks=32)
    with timed_parts(cohort) as watch:
        began = perf_counter()
        cohort.advance(ticks=ticks)
        whole = perf_counter() - began
    parts = sorted(watch.seconds.items(), key=lambda item: -item[1])
    rows = [[part, f"{100 * took / whole:.1f} %", f"{1e6 * took / ticks:.0f}"] for part, took in parts]
    rows.append(["together", "100 %", f"{1e6 * whole / ticks:.0f}"])
    return f"A tick of a cohort of {width}, {case}, {program}.\n\n{table(['part', 'share', 'µs a tick'], rows)}"


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="fewer rounds")
    asked.add_argument("--profile", action="store_true", help="where a tick's time goes, instead")
    asked.add_argument("--case", choices=CASES, help="one workload alone")
    given = asked.parse_args(argv)
    if given.profile:
        shown = [("tiny", 16, "compiled"), ("tiny", 16, "eager"), ("main", 8, "compiled"), ("quickstart", 8, "eager")]
        text = "\n\n".join(profile(case, width=k, ticks=800 // k, program=program) for case, k, program in shown)
        title = "Engine: where a tick's time goes"
    else:
        rounds = 3 if given.quick else 11
        cases = [given.case] if given.case else list(CASES)
        text = "\n\n".join(compare(case, rounds=rounds) for case in cases)
        text, title = f"{machine()}.\n\n{text}", TITLE
    tell(title, text, is_kept=given.write)


if __name__ == "__main__":
    main()
