"""Claims of runs that diverge, enter late or are read at few steps; of waits among eurekas, laws, and final levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from claims import _AT, CLAIMS, MEDIAN, SIGMA, Ends, T, cells, claim, truths
from scipy.stats import norm
from scipy.stats import t as student
from test_survival import events

from analysis.interval import median_interval
from analysis.laws import fit_law
from analysis.models.turnbull import interval_curve
from analysis.survival import cell_estimates, chance_by_step

__all__ = ["CLAIMS"]


@claim("diverging", reps=2000, n=20, ever=0.8)
def _diverging(rng: np.random.Generator, reps: int, *, n: int, ever: float) -> Iterator[Ends]:
    """Runs diverge at an exponential step with mean 150, and then can have no eureka; a fifth is stopped early."""
    shape = (reps, n)
    z, apart, kept = np.log(_AT / MEDIAN) / SIGMA, _AT[1] - _AT[0], np.exp(-_AT / 150)
    share = np.cumsum(ever * norm.pdf(z) / (SIGMA * _AT) * kept) * apart
    watched = (1 - ever * norm.cdf(z)) * kept
    truth = {"chance": share[-1], "restricted_mean": np.trapezoid(1 - share, _AT)}
    truth["steps_per_eureka"] = np.trapezoid(watched, _AT) / share[-1]
    steps = np.where(rng.random(shape) < ever, MEDIAN * np.exp(SIGMA * rng.normal(size=shape)), np.inf)
    lost = rng.exponential(150, shape)
    stop = np.where(rng.random(shape) < 0.2, rng.uniform(0, T, shape), T)
    ways = np.where(steps <= np.minimum(lost, stop), "e", np.where(lost <= stop, "d", "c"))
    ends = np.minimum(np.minimum(steps, lost), stop)
    table = events(ends.ravel(), ways.ravel(), rep=np.repeat(np.arange(reps), n))
    words = {"chance": "P(by T)", "restricted_mean": "restricted mean", "steps_per_eureka": "steps per eureka"}
    for row in cell_estimates(table, at_step=T, by=["rep"]).iter_rows(named=True):
        for name, word in words.items():
            if row[name] is not None:
                high = row[f"{name}_hi"]
                ends_told = (row[f"{name}_lo"] or 0.0, np.inf if high is None else high)
                yield f"{word}, with divergence, n={n}", *ends_told, float(truth[name])


@claim("late entries", reps=1000, n=30)
def _late(rng: np.random.Generator, reps: int, *, n: int) -> Iterator[Ends]:
    """Half of the runs were begun from a checkpoint without an eureka at 20 steps: only such are ever seen."""
    truth = truths(0.8)["chance"]
    for _ in range(reps):
        steps = np.where(rng.random(6 * n) < 0.8, MEDIAN * np.exp(SIGMA * rng.normal(size=6 * n)), np.inf)
        late = steps[steps > 20][: n // 2]
        kept = np.concatenate([steps[-(n - n // 2) :], late])
        entry = np.r_[np.zeros(n - n // 2), np.full(n // 2, 20.0)]
        table = events(np.minimum(kept, T), np.where(kept <= T, "e", "c"), entry_step=entry)
        row = chance_by_step(table, at_steps=[T]).row(0, named=True)
        yield f"P(by T), half of {n} runs entered late", row["chance_lo"], row["chance_hi"], truth


@claim("few readings", reps=400, n=40)
def _few_readings(rng: np.random.Generator, reps: int, *, n: int) -> Iterator[Ends]:
    """Half of the runs are read every 20 steps, half every 30, so that bounds overlap; a third are stopped early."""
    truth = 0.8 * norm.cdf(np.log(60 / MEDIAN) / SIGMA)
    for _ in range(reps):
        steps = np.where(rng.random(n) < 0.8, MEDIAN * np.exp(SIGMA * rng.normal(size=n)), np.inf)
        apart = np.where(np.arange(n) % 2, 20.0, 30.0)
        last = np.where(rng.random(n) < 1 / 3, 60.0, 120.0)  # a reading of both
        read = np.ceil(steps / apart) * apart
        came = read <= last
        table = events(np.where(came, read, last), np.where(came, "e", "c"))
        bounds = {"after_step": np.where(came, read - apart, 0.0), "by_step": np.where(came, read, 0.0)}
        table = table.with_columns(**{name: pl.Series(values) for name, values in bounds.items()})
        told = interval_curve(table, resamples=100).filter(pl.col("by_step") <= 60)
        if told.height:
            row = told.row(-1, named=True)
            yield f"P(by 60) between readings (Turnbull), n={n}", row["chance_lo"], row["chance_hi"], truth


@claim("median of eurekas", reps=4000)
def _median_of_eurekas(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    for n in (6, 20):
        for _ in range(reps // 2):
            _, low, high = median_interval(sorted(MEDIAN * np.exp(SIGMA * rng.normal(size=n))))
            yield f"median step of {n} eurekas (ranks)", low, high, MEDIAN


@claim("law", reps=400, configs=30, seeds=4)
def _law(rng: np.random.Generator, reps: int, *, configs: int, seeds: int) -> Iterator[Ends]:
    """Waits that go with the -0.7th power of a setting, a fifth of them censored."""
    for _ in range(reps):
        lr = np.repeat(10 ** rng.uniform(-4, -2, configs), seeds)
        own = np.repeat(0.2 * rng.normal(size=configs), seeds)
        steps = 40 * lr**-0.7 * np.exp(own + 0.4 * rng.normal(size=len(lr)))
        stop = 40 * (10**-3.6) ** -0.7
        ids = [f"c{i}" for i in np.repeat(np.arange(configs), seeds)]
        ways = np.where(steps <= stop, "e", "c")
        law = fit_law(events(np.minimum(steps, stop), ways, config_id=ids, lr=lr), settings=["lr"])
        row = law.table.row(0, named=True)
        yield f"exponent of a law, {configs} configs of {seeds}", row["exponent_lo"], row["exponent_hi"], -0.7
        read = law.median_step(pl.DataFrame({"lr": [10**-2.5]})).row(0, named=True)
        yield f"median of a law, {configs} configs of {seeds}", read["median_lo"], read["median_hi"], 40 * 10**1.75


@claim("final level", reps=4000)
def _final_level(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    """The mean of two modes, as final losses have where some runs had their eureka: Student's, as final.py has it."""
    for n in (10, 40):
        for _ in range(reps // 2):
            values = np.where(rng.random(n) < 0.6, 0.05, 0.95) + 0.03 * rng.normal(size=n)
            half = student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
            yield f"mean final level, n={n}", values.mean() - half, values.mean() + half, 0.6 * 0.05 + 0.4 * 0.95


@claim("small cells", reps=2000)
def _small(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    """The cells that a quick sweep has: five runs, none stopped."""
    for ever in (0.5, 0.9):
        truth = truths(ever)["chance"]
        table = cells(rng, reps // 2, n=5, ever=ever, stopped=0.0)
        for row in chance_by_step(table, at_steps=[T], by=["rep"]).iter_rows(named=True):
            yield f"P(by T), n=5, P={truth:.2f}, 0% stopped", row["chance_lo"], row["chance_hi"], truth
