"""Wall time of 48 quickstart runs on two cores: eureka against a plain Ray Tune sweep.

The plain side is what Ray's own guide arrives at: one function a run, `tune.report` every 50 steps,
Tune's default settings and loggers, one CPU a trial. It trains each run for the very number of steps
that eureka trained it, so both sides do the same work. Each side is a fresh process, and its time
includes imports and Ray's own start.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from tests.benchmarks.timing import keep, machine, spread, table

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "orchestrator" / "sweeps" / "quickstart.yaml"
WORKERS = 2
REPORT_STEPS = 50
TITLE = "Sweep: 48 quickstart runs on two cores"
AXES = ["axes.model.attention.temperature=[0.5,1.0]", "axes.optim.lr=[3.0e-4,1.0e-3,3.0e-3]"]


def overrides(*, quick: bool) -> list[str]:
    return [*AXES, "base.budget.steps=300"] if quick else AXES


def train_with_eureka(store: str, *given: str) -> None:
    """One side, in its own process."""
    from orchestrator.run import run_sweep
    from orchestrator.sweep import load_sweep

    run_sweep(load_sweep(QUICKSTART, overrides=given), store_path=store, launcher="ray", workers=WORKERS)


def train_with_plain_tune(work: str, results: str) -> None:
    """The other side: `work` is a JSON list of (spec, steps)."""
    import ray
    from ray import tune

    runs = json.loads(Path(work).read_text())

    def train(config: dict[str, int]) -> None:
        import statistics

        import torch

        from tests.benchmarks.plain_runs import PlainRun
        from workloads.spec import resolve

        torch.set_num_threads(1)
        spec, steps = runs[config["run"]]
        run = PlainRun(resolve(spec))
        for step in range(1, steps + 1):
            run.step()
            if step % REPORT_STEPS == 0 or step == steps:
                loss, accuracy = run.losses[-REPORT_STEPS:], run.accuracies[-REPORT_STEPS:]
                tune.report({"step": step, "loss": statistics.fmean(loss), "accuracy": statistics.fmean(accuracy)})

    ray.init(num_cpus=WORKERS, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"run": tune.grid_search(list(range(len(runs))))},
        run_config=tune.RunConfig(storage_path=results),
    )
    found = tuner.fit()
    assert len(found) == len(runs)
    assert not found.errors


def timed(side: str, *args: str) -> float:
    """Wall seconds of one side."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "tests.benchmarks.bench_sweep", "--side", side, *args]
    began = perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    return perf_counter() - began


def trained(store: str) -> list[tuple[dict[str, object], int]]:
    """What eureka trained: each run's spec, and its steps."""
    from analysis.store import Store

    rows = Store(store).runs_table().select(["spec", "steps", "status"]).to_pylist()
    assert {row["status"] for row in rows} <= {"finished", "diverged"}
    return [(json.loads(row["spec"]), row["steps"]) for row in rows]


def compare(*, pairs: int, quick: bool) -> str:
    seconds: dict[str, list[float]] = {"eureka": [], "plain Ray Tune": []}
    for _ in range(pairs):
        with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
            store, work, results = f"{scratch}/store", f"{scratch}/work.json", f"{scratch}/results"
            seconds["eureka"].append(timed("eureka", store, *overrides(quick=quick)))
            runs = trained(store)
            Path(work).write_text(json.dumps(runs))
            seconds["plain Ray Tune"].append(timed("plain", work, results))
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    steps = sum(steps for _, steps in runs)
    rows = [[name, spread(took, digits=1), f"{steps / min(took):.0f}"] for name, took in seconds.items()]
    rows.append(["plain ÷ eureka", spread(ratios), ""])
    note = f"{len(runs)} runs, {steps} run-steps a side, pairs in turns: {pairs}; median (each). "
    note += f"The plain side reports every {REPORT_STEPS} steps; eureka stores every step."
    return f"{machine()}; {WORKERS} cores.\n{note}\n\n{table(['', 'wall [s]', 'run-steps/s, best'], rows)}"


SIDES = {"eureka": train_with_eureka, "plain": train_with_plain_tune}


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="one pair, shorter runs")
    options.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    options.add_argument("--pairs", type=int, default=1)
    options.add_argument("--side", choices=SIDES, help="(for the benchmark itself) one side alone")
    options.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    given = options.parse_args(argv)
    if given.side:
        SIDES[given.side](*given.rest)
        return
    text = compare(pairs=1 if given.quick else given.pairs, quick=given.quick)
    print(text)
    if given.write:
        keep(TITLE, text)


if __name__ == "__main__":
    main()
