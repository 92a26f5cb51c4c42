"""Probability and timing of the eureka-moment from EVENTS: Aalen and Johansen's estimate, any number of groups at once.

Without competing exits the estimate is Kaplan and Meier's, without censoring it is k/n; both are tested. Own code,
because lifelines' Aalen-Johansen jitters ties at random and takes 300 times as long over 500 groups; it stays the
oracle for the one-exit case. Every variance below is one delta-method sum over exit steps: the derivative of the
quantity by the hazard of each kind of exit there, times the multinomial variance of those hazards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import t as student

from analysis.interval import wilson
from analysis.life_table import effective_runs, exits, life_table

__all__ = [
    "Mean",
    "cell_estimates",
    "censor_undetectable",
    "chance_by_step",
    "curve",
    "exits",
    "mean_with_error",
    "median_step",
    "restricted_mean",
]


def censor_undetectable(events: pl.DataFrame) -> pl.DataFrame:
    """EVENTS as if no run had been watched past `detectable_step`, where a fall could still have been confirmed.

    The plain estimate is of the chance that a budget of T steps *shows* a eureka. This one is of the chance that it
    *happens* by a step, unbiased up to the detectable step and silent after it. Runs that stopped on their event
    keep it.
    """
    horizon = pl.col("detectable_step").filter(pl.col("status") == "censored").max()
    late = (pl.col("status") == "eureka") & (pl.col("eureka_step") > horizon).fill_null(False)
    open_end = pl.col("status") == "censored"
    return events.with_columns(
        status=pl.when(late).then(pl.lit("censored")).otherwise("status"),
        censored_step=pl.when(late)
        .then(horizon)
        .when(open_end)
        .then("detectable_step")
        .otherwise("censored_step")
        .cast(pl.Int64),
    )


def curve(events: pl.DataFrame, *, by: Sequence[str] = (), level: float = 0.95) -> pl.DataFrame:
    """P(eureka by step), a step function, one row at 0 and at each exit.

    Args:
        events: EVENTS rows, with any grouping columns joined on [one row a run]; with a column `entry_step`, a run
            counts only after it [steps].
        by: columns whose values name the groups.
        level: two-sided coverage of the interval [fraction].

    Returns:
        Sorted rows: the grouping columns; step [steps]; chance, chance_lo, chance_hi: P(eureka by step) with the
        Rothman-Wilson interval; lost: P(diverged or solved gradually by step) [fraction]; at_risk: runs still
        watched just before the step; n_eureka, n_lost, n_censored: exits at it; n: runs of the group [runs].

    Source: Aalen and Johansen 1978, Scand. J. Stat. 5:141; interval: Rothman 1978, J. Chron. Dis. 31:557.
    Checked by: test_survival.py::test_eight_subjects_match_rs_aalen_johansen and others there
    """
    return _curve(life_table(events, by=by)[1], by=by, level=level)


def chance_by_step(
    events: pl.DataFrame, *, at_steps: Sequence[float], by: Sequence[str] = (), level: float = 0.95
) -> pl.DataFrame:
    """P(eureka by each of the given steps); null where no run of the group was watched that long and some still might.

    Args:
        events: EVENTS rows [one row a run].
        at_steps: where to read the curves [steps].
        by: grouping columns.
        level: two-sided coverage [fraction].

    Returns:
        One row a (group, step): the grouping columns, step [steps]; chance, chance_lo, chance_hi [fraction]; n [runs].

    Checked by: test_survival.py::test_uncensored_chance_is_k_over_n_with_wilsons_interval
    """
    groups, table = life_table(events, by=by)
    return _chance(groups, table, at_steps=at_steps, level=level).select(*by, "step", *_with_ends("chance"), "n")


def median_step(events: pl.DataFrame, *, by: Sequence[str] = (), level: float = 0.95) -> pl.DataFrame:
    """The step by which half of all runs, those that never succeed included, have had their eureka.

    Returns:
        One row a group: the grouping columns; median_step, median_lo, median_hi [steps], null where not reached; n
        [runs]. The interval is where the chance's band crosses one half.

    Source: Brookmeyer and Crowley 1982, Biometrics 38:29, with Rothman-Wilson bands.
    Checked by: test_survival.py::test_aml_medians_match_r
    """
    groups, table = life_table(events, by=by)
    return _median(groups, table, level=level).select(*by, "median_step", "median_lo", "median_hi", "n")


def restricted_mean(
    events: pl.DataFrame, *, until_step: float, by: Sequence[str] = (), level: float = 0.95
) -> pl.DataFrame:
    """Mean steps to eureka, each run's counted at most to `until_step`, and the steps spent per eureka.

    Args:
        events: EVENTS rows [one row a run].
        until_step: the horizon T [steps].
        by: grouping columns.
        level: two-sided coverage [fraction].

    Returns:
        One row a group: the grouping columns; restricted_mean, _lo, _hi: the area over the curve of P(eureka) up to
        T; a run that never succeeds counts T. Student's interval, with one degree less than runs that were not
        stopped early; null with one run; with no eureka, T(1 - chance_hi) to T. steps_per_eureka, _lo, _hi: steps
        spent by T over P(eureka by T), which is the expected cost when runs that failed are begun again (ERT);
        square and add on logarithms, with Wilson's ends for P. All [steps]. n [runs]. All null where no run was
        watched to T.

    Source: Royston and Parmar 2013, BMC Med. Res. Methodol. 13:152 (restricted mean); Hansen et al. 2021, Optim.
        Methods Softw. 36:114 (ERT, COCO); Donner and Zou 2012, Stat. Methods Med. Res. 21:347 (its interval).
    Checked by: test_survival.py::test_restricted_mean_equals_lifelines and ::test_steps_per_eureka_is_cocos_ert
    """
    groups, table = life_table(events, by=by)
    chance = _chance(groups, table, at_steps=[until_step], level=level)
    means = _means(groups, table, until_step=until_step, level=level, chance=chance)
    return means.select(*by, *_with_ends("restricted_mean"), *_with_ends("steps_per_eureka"), "n")


@dataclass(frozen=True)
class Mean:
    """A restricted mean, its standard error [steps], and the runs that it rests on: those not stopped early [runs]."""

    mean: float
    se: float
    n: int


def mean_with_error(events: pl.DataFrame, *, until_step: float) -> Mean:
    """The restricted mean of all the given runs with its standard error, for comparisons; see `restricted_mean`."""
    row = _sums(*life_table(events, by=()), until_step=until_step).row(0, named=True)
    n = int(row["whole"])
    return Mean(float(row["missed"]), (max(float(row["v_missed"]), 0.0) * n / max(n - 1, 1)) ** 0.5, n)


def cell_estimates(
    events: pl.DataFrame, *, at_step: float, by: Sequence[str] = (), level: float = 0.95
) -> pl.DataFrame:
    """Chance, median, restricted mean and steps per eureka of every group, from one life table.

    Returns:
        One row a group: the grouping columns and every column of `chance_by_step`, `median_step` and
        `restricted_mean` at that step, n last.

    Checked by: test_survival.py::test_cell_estimates_are_the_single_ones_side_by_side
    """
    groups, table = life_table(events, by=by)
    chance = _chance(groups, table, at_steps=[at_step], level=level)
    median = _median(groups, table, level=level).drop(*groups, "n")
    means = _means(groups, table, until_step=at_step, level=level, chance=chance).drop(*groups, "n")
    columns = [*_with_ends("chance"), "median_step", "median_lo", "median_hi"]
    columns += [*_with_ends("restricted_mean"), *_with_ends("steps_per_eureka")]
    return pl.concat([chance, median, means], how="horizontal").select(*by, *columns, "n")


def _with_ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_lo", f"{name}_hi"


def _curve(table: pl.DataFrame, *, by: Sequence[str], level: float) -> pl.DataFrame:
    low, high = wilson(pl.col("chance"), n=effective_runs(), level=level)
    columns = ("step", *_with_ends("chance"), "lost", "at_risk", "n_eureka", "n_lost", "n_censored", "n")
    return table.with_columns(chance_lo=low, chance_hi=high).select(*by, *columns)


def _chance(groups: list[str], table: pl.DataFrame, *, at_steps: Sequence[float], level: float) -> pl.DataFrame:
    """One row a (group, asked step), in their order: groups, step, chance with its interval, n."""
    asked = pl.DataFrame({"at": sorted(map(float, at_steps))}, schema={"at": pl.Float64})
    passed = pl.col("step") <= pl.col("at")
    read = (
        table.join(asked, how="cross")
        .group_by([*groups, "at"], maintain_order=True)
        .agg(
            pl.col("chance", "variance", "entered").filter(passed).last(),
            pl.col("n").first(),
            early=pl.col("n_censored").filter(pl.col("step") < pl.col("at")).sum(),
            is_known=(pl.col("step").max() >= pl.col("at").first()) | (pl.col("watched").last() <= 1e-9),
        )
    )
    low, high = wilson(pl.col("chance"), n=effective_runs(), level=level)
    read = read.with_columns(chance_lo=low, chance_hi=high)
    estimates = (pl.when("is_known").then(name).alias(name) for name in _with_ends("chance"))
    return read.select(*groups, pl.col("at").alias("step"), *estimates, "n")


def _median(groups: list[str], table: pl.DataFrame, *, level: float) -> pl.DataFrame:
    half = 0.5 - 1e-12

    def first(column: str) -> pl.Expr:
        return pl.col("step").filter(pl.col(column) >= half).first()

    low, high = wilson(pl.col("chance"), n=effective_runs(), level=level)
    return (
        table.with_columns(chance_lo=low, chance_hi=high)
        .group_by(groups, maintain_order=True)
        .agg(
            median_step=first("chance"),
            median_lo=first("chance_hi"),
            median_hi=first("chance_lo"),
            n=pl.col("n").first(),
        )
    )


def _means(
    groups: list[str], table: pl.DataFrame, *, until_step: float, level: float, chance: pl.DataFrame
) -> pl.DataFrame:
    """One row a group: restricted mean and steps per eureka with their intervals, and n."""
    sums = _sums(groups, table, until_step=until_step)
    sums = sums.with_columns(chance["chance_lo"], chance["chance_hi"], quantile=_student(sums["whole"], level=level))
    sums = sums.with_columns(inflation=pl.col("whole") / (pl.col("whole") - 1))
    horizon = pl.lit(float(until_step))
    known, none_yet = pl.col("known"), pl.col("chance") <= 0
    spread = pl.col("quantile") * (pl.col("v_missed") * pl.col("inflation")).clip(lower_bound=0.0).sqrt()
    low = (
        pl.when(none_yet)
        .then(horizon * (1 - pl.col("chance_hi")))
        .otherwise((pl.col("missed") - spread).clip(lower_bound=0.0))
    )
    high = pl.when(none_yet).then(horizon).otherwise(pl.min_horizontal(pl.col("missed") + spread, horizon))
    ratio_low, ratio_high = _ratio_ends()
    estimates = {
        "restricted_mean": pl.col("missed"),
        "restricted_mean_lo": low,
        "restricted_mean_hi": pl.when(pl.col("quantile").is_not_null() | none_yet).then(high),
        "steps_per_eureka": pl.when(pl.col("chance") > 0).then(pl.col("spent") / pl.col("chance")),
        "steps_per_eureka_lo": pl.when(pl.col("chance") > 0).then(ratio_low),
        "steps_per_eureka_hi": pl.when(pl.col("chance") > 0).then(ratio_high),
    }
    return sums.select(*groups, *(pl.when(known).then(each).alias(name) for name, each in estimates.items()), "n")


def _sums(groups: list[str], table: pl.DataFrame, *, until_step: float) -> pl.DataFrame:
    """Areas up to the horizon, one row a group: missed, spent [steps], chance, their (co)variances, known, and whole.

    `whole` are the runs that were not stopped early: what the estimate rests on [runs].
    """
    horizon = pl.lit(float(until_step))
    begun = pl.col("step") <= horizon
    width = (
        pl.min_horizontal(pl.col("step").shift(-1).over(groups).fill_null(horizon), horizon) - pl.col("step")
    ).clip(lower_bound=0.0)
    table = table.with_columns(width=width, begun=begun).with_columns(**_derivatives(groups, horizon=horizon))
    y = pl.col("at_risk").cast(pl.Float64)
    p1, p2 = pl.col("n_eureka") / y, pl.col("n_lost") / y
    at_work = begun & (pl.col("n_eureka") + pl.col("n_lost") > 0)

    def covariance(one: str, other: str) -> pl.Expr:
        a1, a2, b1, b2 = pl.col(f"{one}_1"), pl.col(f"{one}_2"), pl.col(f"{other}_1"), pl.col(f"{other}_2")
        terms = a1 * b1 * p1 + a2 * b2 * p2 - (a1 * p1 + a2 * p2) * (b1 * p1 + b2 * p2)
        return pl.when(at_work).then(terms / y).otherwise(0.0)

    products = table.select(
        *groups,
        "n",
        stopped=pl.when(pl.col("step") < horizon).then("n_censored").otherwise(0),
        is_last=pl.when(begun).then("chance"),
        missed=pl.when(begun).then((1 - pl.col("chance")) * pl.col("width")).otherwise(0.0),
        spent=pl.when(begun).then(pl.col("watched") * pl.col("width")).otherwise(0.0),
        v_missed=covariance("missed", "missed"),
        v_spent=covariance("spent", "spent"),
        v_chance=covariance("chance", "chance"),
        v_both=covariance("spent", "chance"),
        ends_later=pl.col("step") >= horizon,
        all_gone=pl.col("watched") <= 1e-9,
    )
    return products.group_by(groups, maintain_order=True).agg(
        pl.col("missed", "spent", "v_missed", "v_spent", "v_chance", "v_both").sum(),
        n=pl.col("n").first(),
        whole=pl.col("n").first() - pl.col("stopped").sum(),
        chance=pl.col("is_last").max(),
        known=pl.col("ends_later").any() | pl.col("all_gone").last(),
    )


def _derivatives(groups: list[str], *, horizon: pl.Expr) -> dict[str, pl.Expr]:
    """Of three quantities at T by the hazards of eureka (_1) and loss (_2) at each row's step."""
    f, before = pl.col("chance"), pl.col("watched_before")
    left = (horizon - pl.col("step")).clip(lower_bound=0.0)
    remaining = pl.when(pl.col("hazard") < 1).then(1 - pl.col("hazard")).otherwise(1.0)  # numerators are zero there

    def ahead(term: pl.Expr) -> pl.Expr:  # sum over this and later rows
        return (term.sum() - term.cum_sum() + term).over(groups)

    f_end = pl.when(pl.col("begun")).then(f).otherwise(None).max().over(groups)
    area_f = ahead(f * pl.col("width")) - f * left  # of F(t) - F(here), from here to T
    area_s = ahead(pl.col("watched") * pl.col("width"))
    shrink_f, shrink_area, shrink_s = (f_end - f) / remaining, area_f / remaining, area_s / remaining
    return {
        "chance_1": before - shrink_f,
        "chance_2": -shrink_f,
        "missed_1": -(before * left - shrink_area),
        "missed_2": shrink_area,
        "spent_1": -shrink_s,
        "spent_2": -shrink_s,
    }


def _student(runs: pl.Series, *, level: float) -> pl.Series:
    """Student's two-sided quantile with runs-1 degrees [1]; null for one run."""
    degrees = (runs - 1).cast(pl.Float64).to_numpy()
    quantile = student.ppf(0.5 + level / 2, np.maximum(degrees, 1.0))
    return pl.Series(np.where(degrees > 0, quantile, np.nan)).fill_nan(None)


def _ratio_ends() -> tuple[pl.Expr, pl.Expr]:
    """Interval for spent/chance: square and add on logarithms, with Wilson's ends for chance [steps].

    The two are correlated (a run that succeeds spends less); where one has no variance, as much as can be.
    """
    spent, chance = pl.col("spent"), pl.col("chance")
    spread = pl.col("quantile") * (pl.col("v_spent") * pl.col("inflation")).clip(lower_bound=0.0).sqrt() / spent
    down, up = (chance / pl.col("chance_lo")).log(), (pl.col("chance_hi") / chance).log()
    both = (pl.col("v_spent") * pl.col("v_chance")).clip(lower_bound=0.0).sqrt()
    alike = pl.when(both > 1e-12).then(-pl.col("v_both") / both).otherwise(1.0).clip(-1.0, 1.0)

    def joined(side: pl.Expr) -> pl.Expr:
        return (spread**2 + side**2 + 2 * alike * spread * side).clip(lower_bound=0.0).sqrt()

    ratio = spent / chance
    return ratio * (-joined(up)).exp(), ratio * joined(down).exp()
