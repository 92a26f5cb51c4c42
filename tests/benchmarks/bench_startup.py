"""Where a sweep's time goes besides training: start-up of a fresh worker, of the next cohort, and work a run.

*fresh worker*: an interpreter that knows nothing, until its first cohort has taken its first step, part by part.
*next cohort*: in a process that has trained one before, from `reset_config`'s work to the first step.
*a run*: processor seconds of everything but the engine, for a sweep of runs that end after a few steps, in one
process: planning, queue, worker, commits. Under Ray the driver's own seconds come on top, which *driver* shows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from tests.benchmarks.timing import machine, options, spread, table, tell

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "orchestrator" / "sweeps" / "quickstart.yaml"
TITLE = "Start-up, and work besides training"
SHORT = [
    "base.task.features=8",
    "base.model.width=8",
    "base.model.layers=1",
    "base.model.heads=2",
]
SHORT += ["base.budget.batch=8", "log.measures_every_steps=0"]
WIDTH = 16


def fresh_worker(folder: str) -> dict[str, float]:
    """In a new interpreter: seconds of each part until the first step is done."""
    marks = [perf_counter()]
    import torch

    assert torch.__version__

    marks.append(perf_counter())
    from orchestrator.worker import CohortWorker

    marks.append(perf_counter())
    where = json.loads((Path(folder) / "where.json").read_text())
    worker = CohortWorker(store=where["store"], sweep="quickstart", cohort=where["cohorts"][0])
    worker.open()
    marks.append(perf_counter())
    assert worker.engine is not None
    worker.engine.advance(ticks=1)
    marks.append(perf_counter())
    names = ("import torch", "import the worker", "open the cohort", "first step")
    return {name: later - earlier for name, earlier, later in zip(names, marks[:-1], marks[1:], strict=True)}


def next_cohort(folder: str) -> dict[str, float]:
    """In a process that has trained a cohort: seconds until the next one's first step is done, and of a later step."""
    from orchestrator.worker import CohortWorker

    where = json.loads((Path(folder) / "where.json").read_text())
    worker = CohortWorker(store=where["store"], sweep="quickstart", cohort=where["cohorts"][0])
    worker.open()
    assert worker.engine is not None
    worker.engine.advance(ticks=20)
    found: dict[str, list[float]] = {"open it": [], "open it, CPU": [], "first step, CPU": [], "a later step, CPU": []}
    for cohort in where["cohorts"][1:]:
        began, cpu = perf_counter(), process_time()
        worker = CohortWorker(store=worker.store, sweep="quickstart", cohort=cohort)
        worker.open()
        marks = [cpu, process_time()]
        found["open it"].append(perf_counter() - began)
        assert worker.engine is not None
        for _ in range(2):
            worker.engine.advance(ticks=1)
            marks.append(process_time())
        for name, earlier, later in zip(list(found)[1:], marks[:-1], marks[1:], strict=True):
            found[name].append(later - earlier)
    return {name: statistics.median(values) for name, values in found.items()}


def a_run(folder: str) -> dict[str, float]:
    """Processor seconds a run besides the engine's, in one process."""
    from orchestrator.run import run_sweep
    from orchestrator.sweep import load_sweep
    from workloads.cohort import Cohort

    sweep = load_sweep(QUICKSTART, overrides=[*SHORT, "base.budget.steps=32", "replicates=64"])
    engine_s = [0.0]
    advance, init = Cohort.advance, Cohort.__init__

    def timed(method: Any) -> Any:
        def call(self: Cohort, *args: Any, **more: Any) -> Any:
            began = process_time()
            try:
                return method(self, *args, **more)
            finally:
                engine_s[0] += process_time() - began

        return call

    Cohort.advance, Cohort.__init__ = timed(advance), timed(init)  # type: ignore[method-assign]
    began = process_time()
    run_sweep(sweep, store_path=Path(folder) / "short", launcher="inline", width=WIDTH)
    took = process_time() - began
    return {
        "ms a run": 1000.0 * (took - engine_s[0]) / len(sweep.runs),
        "engine, ms a run": 1000.0 * engine_s[0] / len(sweep.runs),
    }


def driver(folder: str) -> dict[str, float]:
    """Processor seconds of Ray's driver a second while two workers train, and a run."""
    from orchestrator.planner import Means, plan_sweep
    from orchestrator.run import run_sweep
    from orchestrator.sweep import load_sweep

    sweep = load_sweep(QUICKSTART, overrides=[*SHORT, "base.budget.steps=200", "replicates=64"])
    plan_sweep(sweep, store=None, means=Means())
    began, wall = process_time(), perf_counter()
    outcome = run_sweep(sweep, store_path=Path(folder) / "driven", launcher="ray", workers=2, width=WIDTH)
    took, wall = process_time() - began, perf_counter() - wall
    assert outcome.trained == len(sweep.runs)
    return {"s in all, Ray's start included": took, "s of wall time": wall, "ms a run": 1000.0 * took / len(sweep.runs)}


SIDES = {"fresh": fresh_worker, "next": next_cohort, "run": a_run, "driver": driver}
TITLES = {
    "fresh": "fresh worker [s]",
    "next": "next cohort [s]",
    "run": f"besides the engine, width {WIDTH}, one process [CPU]",
    "driver": f"Ray's driver, two workers, width {WIDTH} [CPU]",
}


def prepare(folder: str) -> None:
    """A store with cohorts of the quickstart that nobody has trained."""
    from analysis.store import Store
    from orchestrator.outlook import Outlook
    from orchestrator.packing import cohort_of
    from orchestrator.queue import CohortQueue
    from orchestrator.sweep import load_sweep

    runs = load_sweep(QUICKSTART, overrides=["replicates=24"]).runs
    cohorts = [cohort_of(runs[at : at + 24], width=Outlook().width) for at in range(0, len(runs), 24)]
    store = Store.create(Path(folder) / "store")
    settings = {"device": "cpu", "checkpoint_s": 15.0}
    queue = CohortQueue(store=store, sweep="quickstart", cohorts=cohorts, settings=settings)
    names = [queue.take() for _ in cohorts]
    (Path(folder) / "where.json").write_text(json.dumps({"store": str(store.path), "cohorts": names}))


def measured(side: str, folder: str) -> dict[str, float]:
    """One side in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "EUREKA_CACHE": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.bench_startup",
            "--side",
            side,
            folder if side in ("fresh", "next") else scratch,
        ]
        done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(*, rounds: int) -> str:
    rows = []
    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as folder:
        prepare(folder)
        for side, title in TITLES.items():
            found = [measured(side, folder) for _ in range(rounds)]
            rows += [[title, name, spread([one[name] for one in found], digits=3)] for name in found[0]]
    note = f"{rounds} processes a line; median (quartiles, or each). Load when it began: {os.getloadavg()[0]:.1f}."
    return f"{machine()}.\n{note}\n\n{table(['', 'part', 'measured'], rows)}"


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="one process a line")
    asked.add_argument("--side", choices=SIDES, help="(for the benchmark itself) one side alone")
    asked.add_argument("folder", nargs="?", help=argparse.SUPPRESS)
    given = asked.parse_args(argv)
    if given.side:
        print(json.dumps(SIDES[given.side](given.folder)))
        return
    text = compare(rounds=1 if given.quick else 3)
    tell(TITLE, text, is_kept=given.write)


if __name__ == "__main__":
    main()
