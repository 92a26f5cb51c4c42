"""Cells a second: all estimates of 500 configs here and with lifelines; and seconds for a regression of 10,000 runs.

Both sides give, for each cell, the curve's value at a step, its median, and the restricted mean; ours
adds their intervals and steps per eureka.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import lifelines
import lifelines.utils
import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))

from analysis.estimate import config_table
from analysis.models.families import FAMILIES
from analysis.models.maximise import fit
from analysis.models.times import times_of
from analysis.restart import restart_step
from tests.benchmarks.timing import interleaved, machine, options, spread, table, tell

CELLS, RUNS, T = 500, 20, 2000.0
TITLE = "Estimates: cells a second on one core"


def cells(*, divergence: bool) -> pl.DataFrame:
    """500 cells of 20 runs: log-normal steps, a never-share, 30% stopped early, some diverged."""
    from test_survival import events

    rng, shape = np.random.default_rng(0), (CELLS, RUNS)
    steps = np.where(rng.random(shape) < 0.8, rng.lognormal(7, 0.6, shape), np.inf).round()
    stop = np.where(rng.random(shape) < 0.3, rng.uniform(100, 3000, shape), 3000.0).round()
    ways = np.where(steps <= stop, "e", np.where((rng.random(shape) < 0.1) & divergence, "d", "c"))
    return events(np.minimum(steps, stop).ravel(), ways.ravel(), cell=np.repeat(np.arange(CELLS), RUNS))


def ours(rows: pl.DataFrame) -> Callable[[], int]:
    def work() -> int:
        return config_table(rows, axes=["cell"], at_step=T).height

    return work


def with_restarts(rows: pl.DataFrame) -> Callable[[], int]:
    def work() -> int:
        return restart_step(rows, until_step=T, by=["cell"], resamples=1000).height

    return work


def theirs(rows: pl.DataFrame, *, cells_a_round: int) -> Callable[[], int]:
    few = rows.filter(pl.col("cell") < cells_a_round).with_columns(came=pl.col("status") == "eureka")

    def work() -> int:
        for cell in few.partition_by("cell"):
            fitted = lifelines.KaplanMeierFitter().fit(cell["end_step"].to_numpy(), cell["came"].to_numpy())
            _ = fitted.survival_function_at_times(T), fitted.median_survival_time_, fitted.confidence_interval_
            lifelines.utils.restricted_mean_survival_time(fitted, t=T)
        return cells_a_round

    return work


def regression(n: int) -> tuple[Callable[[], int], int]:
    """A mixture-cure fit with five columns in both parts; the work is one fit."""
    from test_survival import events

    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, 4))])
    ever = rng.random(n) < 1 / (1 + np.exp(-(0.4 + x[:, 1])))
    steps = np.where(ever, np.exp(7 - 0.4 * x[:, 2] + 0.6 * rng.normal(size=n)), np.inf)
    times = times_of(events(np.minimum(steps, 8000), np.where(steps <= 8000, "e", "c")))

    def work() -> int:
        assert fit(times, family=FAMILIES["lognormal"], x=x, z=x).converged
        return 1

    return work, 2 * x.shape[1] + 1


def compare(*, rounds: int) -> str:
    """The tables."""
    plain, diverging = cells(divergence=False), cells(divergence=True)
    contestants = {
        "config_table, divergence as an exit": ours(diverging),
        "config_table": ours(plain),
        "restart_step, 1,000 resamples a cell": with_restarts(plain),
        "lifelines, cell by cell": theirs(plain, cells_a_round=25),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        speeds = interleaved(contestants, rounds=rounds)
    base = speeds["lifelines, cell by cell"]
    rows = []
    for name, found in speeds.items():
        ratios = spread([mine[1] / other[1] for mine, other in zip(found, base, strict=True)], digits=0)
        seconds = [spread([CELLS / speed[clock] for speed in found], digits=3) for clock in (1, 0)]
        rows.append([name, *seconds, ratios])
    text = table(["", f"seconds for {CELLS} cells of {RUNS} runs, wall", "CPU", "speed ÷ lifelines, wall"], rows)
    lines = []
    for n in (200, 2_000, 10_000):
        work, parameters = regression(n)
        found = interleaved({"fit": work}, rounds=rounds)["fit"]
        seconds = [spread([1 / speed[clock] for speed in found], digits=3) for clock in (1, 0)]
        lines.append([f"{n:,}", str(parameters), *seconds])
    fits = table(["runs", "parameters", "seconds a mixture-cure fit, log-normal, wall", "CPU"], lines)
    note = f"{rounds} rounds, in turns; median (quartiles); lifelines is timed on 25 cells a round."
    of = f"{machine()}; polars {pl.__version__}, lifelines {lifelines.__version__}"
    return f"`python -m tests.benchmarks.bench_estimates`; {of}. {note}\n\n{text}\n\n{fits}"


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="fewer rounds")
    given = asked.parse_args(argv)
    text = compare(rounds=3 if given.quick else 9)
    tell(TITLE, text, is_kept=given.write)


if __name__ == "__main__":
    main()
