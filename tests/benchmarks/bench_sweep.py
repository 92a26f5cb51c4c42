"""A whole sweep on two cores, from the command to the last stored curve: eureka against plain Ray Tune.

The plain side is what a competent user writes: a function trainable that trains one run per trial with an eager module
and reports its mean loss and accuracy every few steps; once as Tune comes, and once tuned (workers reused, loggers
off). It trains each run for the very number of steps that eureka trained it, so all sides do the same work. Each side
is a fresh process, and its time includes imports and Ray's own start; `compiled, first time` also makes its code.
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
from typing import Any

import yaml

from tests.benchmarks.reference import QUICKSTART, reference_data
from tests.benchmarks.timing import machine, options, spread, table, tell

ROOT = Path(__file__).parents[2]
WORKERS = 2
REPORT_STEPS = 50
PLAIN_SHARE = 4  # of the runs, Tune as it comes trains one in so many, and its time is counted so many times
PLAIN = f"Ray Tune as it comes (one run in {PLAIN_SHARE}, time × {PLAIN_SHARE})"
TITLES = {"tiny": "Sweep: 256 runs of tiny, 500 steps each, on two cores", "quickstart": "Sweep: 48 quickstart runs"}
TUNED = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}


def sweep_file(case: str, folder: str, *, program: str, quick: bool) -> str:
    """The sweep of a case, as a file of its own."""
    if case == "quickstart":
        data = yaml.safe_load(QUICKSTART.read_text())
        data["axes"] |= {"model.attention.temperature": [0.5, 1.0], "optim.lr": [3.0e-4, 1.0e-3, 3.0e-3]}
        data["base"]["compute"] = {"program": program}
        if quick:
            data["base"]["budget"]["steps"] = 300
    else:
        base = reference_data("tiny", steps=100 if quick else 500, program=program)
        del base["seed"]
        rates = [1.0e-4, 2.0e-4, 4.0e-4, 8.0e-4, 1.6e-3, 3.2e-3, 6.4e-3, 1.28e-2]
        data = {"name": "tiny", "base": base, "axes": {"optim.lr": rates}, "replicates": 4 if quick else 32}
    path = Path(folder) / f"{case}.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def train_with_eureka(store: str, sweep: str) -> None:
    """One side, in its own process."""
    from orchestrator.run import run_sweep
    from orchestrator.sweep import load_sweep

    run_sweep(load_sweep(sweep), store_path=store, launcher="ray", workers=WORKERS)


def train_with_tune(work: str, results: str, *, tuned: bool) -> None:
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
        tune_config=tune.TuneConfig(reuse_actors=True) if tuned else None,
        run_config=tune.RunConfig(storage_path=results, verbose=0 if tuned else None),
    )
    found = tuner.fit()
    assert len(found) == len(runs)
    assert not found.errors


SIDES: dict[str, Any] = {
    "eureka": train_with_eureka,
    "plain": lambda work, results: train_with_tune(work, results, tuned=False),
    "tuned": lambda work, results: train_with_tune(work, results, tuned=True),
}


def timed(side: str, *args: str, env: dict[str, str] | None = None) -> float:
    """Wall seconds of one side."""
    whole = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", **(env or {})}
    command = [sys.executable, "-m", "tests.benchmarks.bench_sweep", "--side", side, *args]
    began = perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=whole, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    return perf_counter() - began


def trained(store: str) -> list[tuple[dict[str, Any], int]]:
    """What eureka trained: each run's spec, and its steps."""
    from analysis.store import Store

    rows = Store(store).runs_table().select(["spec", "steps", "status"]).to_pylist()
    assert {row["status"] for row in rows} <= {"finished", "diverged"}
    return [(json.loads(row["spec"]), row["steps"]) for row in rows]


def one_turn(case: str, scratch: str, *, quick: bool, plain: bool) -> tuple[dict[str, float], int, int]:
    """Wall seconds of every side; runs, and run-steps, of each."""
    took: dict[str, float] = {}
    code = {"EUREKA_CACHE": f"{scratch}/cache"}
    for name, program in [
        ("eureka, eager", "eager"),
        ("eureka, compiled, first time", "compiled"),
        ("eureka, compiled", "compiled"),
    ]:
        store = f"{scratch}/{len(took)}"
        took[name] = timed("eureka", store, sweep_file(case, scratch, program=program, quick=quick), env=code)
    runs = trained(f"{scratch}/0")
    Path(f"{scratch}/work.json").write_text(json.dumps(runs))
    took["Ray Tune, tuned"] = timed("tuned", f"{scratch}/work.json", f"{scratch}/tuned", env=TUNED)
    if plain:
        some = runs[::PLAIN_SHARE]
        Path(f"{scratch}/some.json").write_text(json.dumps(some))
        took[PLAIN] = timed("plain", f"{scratch}/some.json", f"{scratch}/plain") * len(runs) / len(some)
    return took, len(runs), sum(steps for _, steps in runs)


def compare(case: str, *, turns: int, quick: bool) -> str:
    seconds: dict[str, list[float]] = {}
    for turn in range(turns):
        with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
            took, runs, steps = one_turn(case, scratch, quick=quick, plain=turn == 0)  # that one takes so long
        for name, value in took.items():
            seconds.setdefault(name, []).append(value)
    rows = []
    for name, took_s in seconds.items():
        ratios = [
            spread([rival / mine for mine, rival in zip(took_s, rivals, strict=False)])
            for rivals in (seconds["Ray Tune, tuned"], seconds[PLAIN])
        ]
        rows.append([name, spread(took_s, digits=1), f"{steps / min(took_s):.0f}", *ratios])
    header = [case, "wall [s]", "run-steps/s, best", "tuned Tune ÷ this", "Tune as it comes ÷ this"]
    note = f"{runs} runs, {steps} run-steps a side, sides in turns; median (each). "
    note += f"Tune's side reports every {REPORT_STEPS} steps; eureka stores every step."
    return f"{machine()}; {WORKERS} cores.\n{note}\n\n{table(header, rows)}"


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="one turn, fewer and shorter runs")
    asked.add_argument("--turns", type=int, default=1)
    asked.add_argument("--case", choices=TITLES, help="one sweep alone")
    asked.add_argument("--side", choices=SIDES, help="(for the benchmark itself) one side alone")
    asked.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    given = asked.parse_args(argv)
    if given.side:
        SIDES[given.side](*given.rest)
        return
    for case in [given.case] if given.case else TITLES:
        text = compare(case, turns=1 if given.quick else given.turns, quick=given.quick)
        tell(TITLES[case], text, is_kept=given.write)


if __name__ == "__main__":
    main()
