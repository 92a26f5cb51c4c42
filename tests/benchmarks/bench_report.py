"""How long a report takes, from stored digests: a hundred thousand runs of five hundred configs.

Half of the runs fall at a random step, the others do not; curves of two metrics are written through the store, as
workers would, so that the report, in a process of its own, reads what it always reads. The second report finds
nothing changed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from analysis.rows import curve
from analysis.store import Store
from tests.benchmarks.timing import machine, options, table, tell

TITLE = "Report: seconds for a hundred thousand runs"
ROOT = Path(__file__).parents[2]
LRS, TEMPERATURES = np.geomspace(1e-4, 1e-2, 25), np.geomspace(0.25, 4, 20)
LEVELS = {"level.loss_plateau": 0.95, "level.loss_floor": 0.0, "level.accuracy_plateau": 0.5,
          "level.accuracy_ceiling": 1.0}  # fmt: skip
BLOCK, NO_STEPS, NOTHING = 1000, np.zeros(0, np.int64), {}


def filled_store(path: Path, *, runs: int, steps: int) -> Store:
    """A store of plateaus and falls over a grid of two axes, and its sweep `large`."""
    store, rng = Store.create(path), np.random.default_rng(0)
    t = np.arange(steps, dtype=np.float32)
    noise = rng.normal(0, 0.02, 200_003).astype(np.float32)
    grid = [(float(lr), float(heat)) for lr in LRS for heat in TEMPERATURES]
    for first in range(0, runs, BLOCK):
        rows, curves = [], []
        for number in range(first, min(first + BLOCK, runs)):
            lr, heat = grid[number % len(grid)]
            seed, run = number // len(grid), f"{number:016x}"
            chance = 1 / (1 + np.exp(-1.5 * np.log(lr / 1e-3) + np.log(heat)))
            at = rng.lognormal(np.log(0.35 * steps), 0.3) if rng.random() < chance else np.inf
            share = 1 / (1 + np.exp(np.clip((t - min(at, 1e9)) / (0.03 * min(at, steps)), -50, 50)))
            start = int(rng.integers(len(noise) - steps))
            loss = np.maximum(0.94 * share + 0.01 + noise[start : start + steps] * (0.2 + share), 0.001)
            values = {"loss": loss.astype(np.float32), "accuracy": (1 - 0.5 * share).astype(np.float32)}
            curves.append(curve(run, values, NO_STEPS, NOTHING))
            rows.append(
                {"run_id": run, "config_id": f"{number % len(grid):016x}", "shape_key": "s", "status": "finished",
                 "reason": "budget", "steps": steps, "seconds": 1.0, "optim.lr": lr,
                 "model.attention.temperature": heat, "seed.init": seed, "seed.data": seed, **LEVELS}
            )  # fmt: skip
        types = {"optim.lr": float, "model.attention.temperature": float, "seed.init": int, "seed.data": int}
        store.commit(rows, curves, types=types)
    axes = {"optim.lr": LRS.tolist(), "model.attention.temperature": TEMPERATURES.tolist()}
    record = {"name": "large", "question": "Does it scale?", "axes": axes, "replicates": -(-runs // len(grid)),
              "runs": [f"{number:016x}" for number in range(runs)], "horizon_steps": steps, "yaml": ""}  # fmt: skip
    store.save_sweep(record)
    return store


def report_alone(store: str, out: str) -> None:
    """One report, in its own process: prints wall and CPU seconds, peak memory and the page's size."""
    wall = perf_counter()
    from analysis.report import write_report

    page = write_report(Store(store), "large", out)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size_mib = page.stat().st_size / 2**20
    print(json.dumps({"wall": perf_counter() - wall, "cpu": process_time(), "peak": peak_gib, "size": size_mib}))


def measured(*, runs: int, steps: int) -> str:
    rows = []
    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
        began = perf_counter()
        store = filled_store(Path(scratch) / "store", runs=runs, steps=steps)
        wrote = perf_counter() - began
        for words in ("first", "again, nothing changed"):
            command = [
                sys.executable,
                "-m",
                "tests.benchmarks.bench_report",
                "--alone",
                str(store.path),
                f"{scratch}/out",
            ]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            rows.append([words, *(f"{found[name]:.1f}" for name in ("wall", "cpu", "peak", "size"))])
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    note = f"{runs:,} runs of {steps:,} steps in {min(runs, 500)} configs; store written in {wrote:.0f} s; {load}."
    return f"{note}\n\n{table(['report', 'wall [s]', 'CPU [s]', 'peak memory [GiB]', 'page [MiB]'], rows)}"


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="a tenth of the runs")
    asked.add_argument("--runs", type=int, default=100_000)
    asked.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    given = asked.parse_args(argv)
    if given.alone:
        report_alone(*given.alone)
        return
    text = measured(runs=given.runs // (10 if given.quick else 1), steps=1000)
    text = f"`python -m tests.benchmarks.bench_report`; {machine()}.\n\n{text}"
    tell(TITLE, text, is_kept=given.write)


if __name__ == "__main__":
    main()
