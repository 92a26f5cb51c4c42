"""The intervals that are simulated: how runs are drawn, what is estimated, and the truth that it should cover.

A claim draws data sets and yields (name, low, high, truth) for each interval that is printed of them; nothing where the
estimate says that it is not identified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import polars as pl
from scipy.special import expit
from scipy.stats import norm
from test_design_weights import BUDGET, halving
from test_survival import events

from analysis.design_weights import exempt_chance, weighted_chance
from analysis.effects import compare
from analysis.interval import binomial_interval
from analysis.models import chance_ever, model
from analysis.paired import Pairs, paired_risk_difference
from analysis.restart import cost_by_step, restart_step
from analysis.surface import fit_surface
from analysis.survival import chance_by_step, median_step, restricted_mean

Ends = tuple[str, float | None, float | None, float]
Claim = Callable[[np.random.Generator, int], Iterator[Ends]]
Draw = Callable[..., Iterator[Ends]]
CLAIMS: dict[str, tuple[Claim, int]] = {}
T, MEDIAN, SIGMA = 100.0, 40.0, 0.5
_AT = np.linspace(1e-6, T, 20_001)


def claim(name: str, *, reps: int, **settings: object) -> Callable[[Draw], Draw]:
    """Registers a claim under a name, with how many data sets are drawn."""

    def keep(function: Draw) -> Draw:
        CLAIMS[name] = (partial(function, **settings), reps)
        return function

    return keep


def truths(ever: float, *, median: float = MEDIAN) -> dict[str, float]:
    """P, restricted mean and steps per eureka by T, by integration of the law."""
    share = ever * norm.cdf(np.log(_AT / median) / SIGMA)
    mean = float(np.trapezoid(1 - share, _AT))
    cost = np.cumsum(1 - share) * (_AT[1] - _AT[0]) / np.maximum(share, 1e-12)
    best = int(cost.argmin())
    return {
        "chance": float(share[-1]),
        "mean": mean,
        "cost": mean / float(share[-1]),
        "restart": float(_AT[best]),
        "least": float(cost[best]),
        "median": float(np.interp(0.5, share, _AT)) if share[-1] > 0.5 else np.inf,
    }


def cells(
    rng: np.random.Generator, reps: int, *, n: int, ever: float, stopped: float, median: float = MEDIAN
) -> pl.DataFrame:
    """Cells of n runs; a share is stopped at a uniform random step, the rest at T."""
    steps = np.where(rng.random((reps, n)) < ever, median * np.exp(SIGMA * rng.normal(size=(reps, n))), np.inf)
    stop = np.where(rng.random((reps, n)) < stopped, rng.uniform(0, T, (reps, n)), T)
    ways = np.where(steps <= stop, "e", "c")
    return events(np.minimum(steps, stop).ravel(), ways.ravel(), rep=np.repeat(np.arange(reps), n))


def _binomial(rng: np.random.Generator, reps: int, *, n: int, method: str) -> Iterator[Ends]:
    # averaged over P, as the tables of statistics.md are
    ends = [binomial_interval(k, n=n, method=method) for k in range(n + 1)]  # type: ignore[arg-type]
    for chance in rng.uniform(0, 1, reps):
        yield (f"P, {method}, n={n}", *ends[rng.binomial(n, chance)], chance)


for _method in ("wilson", "exact", "jeffreys"):
    for _n in (10, 50):
        claim(f"binomial {_method} {_n}", reps=4000, n=_n, method=_method)(_binomial)


def _cell_claim(rng: np.random.Generator, reps: int, *, n: int, ever: float, stopped: float) -> Iterator[Ends]:
    table, truth = cells(rng, reps, n=n, ever=ever, stopped=stopped), truths(ever)
    where = f"n={n}, P={truth['chance']:.2f}, {100 * stopped:.0f}% stopped"
    for row in chance_by_step(table, at_steps=[T], by=["rep"]).iter_rows(named=True):
        yield f"P(by T), {where}", row["chance_lo"], row["chance_hi"], truth["chance"]
    for row in restricted_mean(table, until_step=T, by=["rep"]).iter_rows(named=True):
        yield f"restricted mean, {where}", row["restricted_mean_lo"], row["restricted_mean_hi"], truth["mean"]
        if row["steps_per_eureka"] is not None:
            low, high = row["steps_per_eureka_lo"], row["steps_per_eureka_hi"]
            yield (
                f"steps per eureka (square and add), {where}",
                low or 0.0,
                np.inf if high is None else high,
                truth["cost"],
            )
    for row in median_step(table, by=["rep"]).iter_rows(named=True):
        if np.isfinite(truth["median"]):
            low, high = row["median_lo"], row["median_hi"]
            yield (
                f"median step, {where}",
                np.inf if low is None else low,
                np.inf if high is None else high,
                truth["median"],
            )


for _n, _ever, _stopped in (
    (10, 0.2, 0.3),
    (10, 0.5, 0.0),
    (10, 0.9, 0.3),
    (20, 0.9, 0.3),
    (50, 0.5, 0.3),
    (50, 0.9, 0.0),
):
    claim(f"cells {_n} {_ever} {_stopped}", reps=2000, n=_n, ever=_ever, stopped=_stopped)(_cell_claim)


def _restart(rng: np.random.Generator, reps: int, *, n: int, ever: float) -> Iterator[Ends]:
    table, truth = cells(rng, reps, n=n, ever=ever, stopped=0.0), truths(ever)
    for row in restart_step(table, until_step=T, by=["rep"], resamples=400).iter_rows(named=True):
        if row["restart_step"] is None:
            continue
        for name, key in (("restart step", "restart"), ("least cost", "least")):
            column = "restart_step" if name == "restart step" else "steps_per_eureka"
            high = row[f"{column}_hi"]
            yield f"{name} (bootstrap), n={n}, P={truth['chance']:.2f}", row[f"{column}_lo"], high or np.inf, truth[key]
    for row in cost_by_step(table, at_steps=[T], by=["rep"], resamples=400).iter_rows(named=True):
        if row["steps_per_eureka"] is not None:
            high = row["steps_per_eureka_hi"]
            name = f"steps per eureka (bootstrap), n={n}, P={truth['chance']:.2f}"
            yield name, row["steps_per_eureka_lo"], high or np.inf, truth["cost"]


for _n in (20, 100):
    claim(f"restart {_n}", reps=600, n=_n, ever=0.5)(_restart)


@claim("design weights", reps=400)
def _weights(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    truth = np.mean([halving(rng)[1] for _ in range(200)])
    for _ in range(reps):
        table, _ = halving(rng, exempt=0.25, corr=0.9)
        exempt = exempt_chance(table, at_steps=[BUDGET]).row(0, named=True)
        yield "P, exempt runs of ASHA (25%)", exempt["chance_lo"], exempt["chance_hi"], truth
        row = weighted_chance(table, at_steps=[BUDGET], never_stop_fraction=0.25, resamples=200).row(0, named=True)
        yield "P, design-weighted runs of ASHA (25%)", row["chance_lo"], row["chance_hi"], truth


def _arms(rng: np.random.Generator, reps: int, *, n: int, ever: tuple[float, float], ratio: float) -> Iterator[Ends]:
    first, second = truths(ever[0]), truths(ever[1], median=ratio * MEDIAN)
    truth = {
        "risk difference": second["chance"] - first["chance"],
        "odds ratio": second["chance"] / (1 - second["chance"]) * (1 - first["chance"]) / first["chance"],
        "restricted mean difference": second["mean"] - first["mean"],
        "cost ratio": second["cost"] / first["cost"],
        "time ratio": ratio,
    }
    for _ in range(reps):
        parts = [
            cells(rng, 1, n=n, ever=e, stopped=0.1, median=m)
            for e, m in zip(ever, (MEDIAN, ratio * MEDIAN), strict=True)
        ]
        table = pl.concat([part.with_columns(arm=pl.lit(i)) for i, part in enumerate(parts)])
        for row in compare(table, arm="arm", between=(0, 1), at_step=T).table.iter_rows(named=True):
            if row["estimate"] is None or (row["lo"] is None and row["hi"] is None):
                continue
            low, high = (row["lo"] if row["lo"] is not None else 0.0), (row["hi"] if row["hi"] is not None else np.inf)
            yield f"{row['effect']}, {n} runs an arm", low, high, truth[row["effect"]]


for _n in (12, 40):
    claim(f"arms {_n}", reps=600, n=_n, ever=(0.8, 0.5), ratio=1.3)(_arms)


@claim("pairs", reps=4000)
def _pairs(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    for n, a, b, rho in ((20, 0.5, 0.7, 0.6), (10, 0.2, 0.5, 0.3)):
        for _ in range(reps // 2):
            one = rng.normal(size=n)
            other = rho * one + np.sqrt(1 - rho**2) * rng.normal(size=n)
            x, y = one < norm.ppf(a), other < norm.ppf(b)
            counts = Pairs(
                both=int((x & y).sum()),
                only_one=int((x & ~y).sum()),
                only_other=int((~x & y).sum()),
                neither=int((~x & ~y).sum()),
            )
            _, low, high = paired_risk_difference(counts)
            yield f"paired risk difference, {n} pairs", low, high, b - a


@claim("ever", reps=500)
def _ever(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    for n, ever in ((20, 0.6), (60, 0.4)):
        table = cells(rng, reps, n=n, ever=ever, stopped=0.0, median=12.0)
        for row in chance_ever(table, by=["rep"]).iter_rows(named=True):
            if row["chance_ever"] is not None:
                yield f"P(ever) where identified, n={n}", row["chance_ever_lo"], row["chance_ever_hi"], ever


def _sweep(rng: np.random.Generator, *, configs: int, seeds: int, tau: float, budget: float) -> pl.DataFrame:
    x = np.repeat(rng.normal(size=configs), seeds)
    lift = np.repeat(tau * rng.normal(size=configs), seeds)
    is_ever = rng.random(len(x)) < expit(0.4 + x + lift)
    steps = np.where(is_ever, np.exp(7 - 0.4 * x + 0.6 * rng.normal(size=len(x))), np.inf)
    ids = [f"c{i:03}" for i in np.repeat(np.arange(configs), seeds)]
    return events(np.minimum(steps, budget), np.where(steps <= budget, "e", "c"), config_id=ids, x=x)


def _logistic(rng: np.random.Generator, reps: int, *, configs: int, seeds: int) -> Iterator[Ends]:
    """The slope that runs of infinitely many configs would show, the configs' own deviations averaged over."""
    tau = 1.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    x = rng.normal(size=200_000)
    chance = expit(0.4 + x[:, None] + tau * nodes) @ (weights / weights.sum())
    beta = np.zeros(2)
    design = np.column_stack([np.ones(len(x)), x])
    for _ in range(20):
        fitted = expit(design @ beta)
        beta += np.linalg.solve((design.T * (fitted * (1 - fitted))) @ design, design.T @ (chance - fitted))
    for _ in range(reps):
        table = _sweep(rng, configs=configs, seeds=seeds, tau=tau, budget=1e6)
        row = model(table, "eureka ~ x", at_step=1e6).table.row(1, named=True)
        yield f"log odds, {configs} configs of {seeds} seeds", row["lo"], row["hi"], beta[1]


for _configs, _seeds in ((20, 10), (100, 2)):
    claim(f"logistic {_configs}", reps=800, configs=_configs, seeds=_seeds)(_logistic)


def _cure(rng: np.random.Generator, reps: int, *, configs: int, family: str) -> Iterator[Ends]:
    for _ in range(reps):
        table = _sweep(rng, configs=configs, seeds=1, tau=0.0, budget=np.exp(7 + 0.4 * 1.5 + 2.33 * 0.6))
        found = model(table, "time ~ x", kind="cure", family=family, cluster=None)
        truth = {("ever", "x"): 1.0, ("time", "x"): -0.4, ("ever", "intercept"): 0.4, ("time", "intercept"): 7.0}
        for row in found.table.iter_rows(named=True):
            key = (row["part"], row["term"])
            if key in truth and row["lo"] is not None:
                yield f"cure, {row['part']} {row['term']}, {family}, n={configs}", row["lo"], row["hi"], truth[key]


for _n, _family in ((100, "lognormal"), (400, "lognormal"), (100, "average"), (400, "average")):
    claim(f"cure {_n} {_family}", reps=400, configs=_n, family=_family)(_cure)


@claim("aft", reps=500)
def _aft(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    for _ in range(reps):
        x = rng.normal(size=100)
        config = rng.normal(size=25).repeat(4) * 0.3
        steps, stop = (
            np.exp(5 - 0.4 * x[:25].repeat(4) + config + 0.5 * rng.normal(size=100)),
            rng.uniform(50, 800, 100),
        )
        ids = [f"c{i}" for i in np.repeat(np.arange(25), 4)]
        table = events(np.minimum(steps, stop), np.where(steps <= stop, "e", "c"), config_id=ids, x=x[:25].repeat(4))
        row = model(table, "time ~ x", family="lognormal").table.row(1, named=True)
        yield "time ratio (log), 25 configs of 4 seeds", row["lo"], row["hi"], -0.4


@claim("intervals", reps=400)
def _intervals(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    for _ in range(reps):
        x = rng.normal(size=300)
        steps = 3000 * np.exp(-0.4 * x + 0.5 * rng.normal(size=300))
        table = events(
            steps,
            "e" * 300,
            x=x,
            after_step=np.floor(steps / 1000) * 1000,
            by_step=np.floor(steps / 1000) * 1000 + 1000,
        )
        found = model(table, "time ~ x", family="lognormal", cluster=None).table
        for term, truth in (("intercept", np.log(3000)), ("x", -0.4), ("log scale", np.log(0.5))):
            row = found.filter(pl.col("term") == term).row(0, named=True)
            yield f"read every 1,000 steps, {term}, n=300", row["lo"], row["hi"], truth


@claim("cox", reps=400)
def _cox(rng: np.random.Generator, reps: int) -> Iterator[Ends]:
    for _ in range(reps):
        x = rng.normal(size=200)
        steps, stop = rng.exponential(100 * np.exp(-0.5 * x)), rng.uniform(50, 400, 200)
        table = events(np.minimum(steps, stop), np.where(steps <= stop, "e", "c"), x=x)
        row = model(table, "time ~ x", kind="cox", cluster=None).table.row(0, named=True)
        yield "log hazard ratio (Cox), n=200", row["lo"], row["hi"], 0.5


def _surface(rng: np.random.Generator, reps: int, *, points: int, each: int) -> Iterator[Ends]:
    for _ in range(reps):
        slope, tilt, bend = rng.normal(1.2, 0.4), rng.normal(0, 0.7), rng.normal(0, 0.3)
        truth = lambda u, v: expit(slope * u + tilt * v + bend * u * v)  # noqa: B023, E731
        u, v = rng.uniform(-2.3, 2.3, points), rng.uniform(-1, 1, points)
        chance = np.repeat(truth(u, v), each)
        ways = np.where(rng.random(points * each) < chance, "e", "c")
        table = events(np.where(ways == "e", 50, 100), ways, lr=np.exp(np.repeat(u, each)), t=np.repeat(v, each))
        if table["status"].n_unique() < 2:
            continue
        found = fit_surface(table, axes=["lr", "t"], at_step=100)
        a, b = rng.uniform(-2, 2, 20), rng.uniform(-0.9, 0.9, 20)
        read = found.predict(pl.DataFrame({"lr": np.exp(a), "t": b}))
        for row, p in zip(read.iter_rows(named=True), truth(a, b), strict=True):
            yield f"surface, {points} points of {each}", row["chance_lo"], row["chance_hi"], float(p)


for _points, _each in ((60, 4), (80, 1)):
    claim(f"surface {_points} {_each}", reps=400, points=_points, each=_each)(_surface)
