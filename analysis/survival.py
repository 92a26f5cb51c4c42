"""Probability and timing of the eureka-moment from EVENTS: Aalen and Johansen's estimate, any number of groups at once.

A run leaves in one of three ways. It has its eureka. It can no longer have one (it diverged, or was solved gradually):
a competing exit, which is not censoring, since such a run will never succeed. Or it was stopped while it still might:
censored. Without competing exits the estimate is Kaplan and Meier's, without censoring it is k/n; both are tested.

Own code, because lifelines' Aalen-Johansen jitters ties at random and takes 300 times as long over 500 groups; it stays
the oracle for the one-exit case. Every variance below is one delta-method sum over exit steps: the derivative of the
quantity by the hazard of each kind of exit there, times the multinomial variance of those hazards.
"""

from collections.abc import Sequence

import polars as pl
from scipy.stats import t as student

from analysis.errors import NoRuns, NoSuchColumn
from analysis.interval import wilson

_ALL = "_all"  # the one group, where none is asked for


def exits(events: pl.DataFrame, *, by: Sequence[str] = ()) -> pl.DataFrame:
    """When and how each run left: the grouping columns, `exit_step` [steps] and `way`: eureka, lost, censored.

    Failed runs are left out: they say nothing about learning; reports count them.

    Raises:
        NoRuns: no run but failed ones.
        NoSuchColumn: a grouping column is not in `events`.
    """
    missing = [name for name in by if name not in events.columns]
    if missing:
        raise NoSuchColumn(f"events: by: got {missing[0]!r}; expected columns of EVENTS or joined settings")
    lost = (pl.col("status") == "diverged") | (pl.col("kind") == "gradual")
    way = (
        pl.when(pl.col("status") == "eureka")
        .then(pl.lit("eureka"))
        .when(lost)
        .then(pl.lit("lost"))
        .otherwise(pl.lit("censored"))
    )
    step = (
        pl.when(pl.col("status") == "eureka").then("eureka_step")
        .when(pl.col("kind") == "gradual").then(pl.coalesce("solved_step", "end_step"))
        .otherwise(pl.coalesce("censored_step", "end_step"))
    )  # fmt: skip
    kept = events.filter(pl.col("status") != "failed")
    if kept.is_empty():
        raise NoRuns(f"events: {events.height} runs, none of which ran; expected at least one that did not fail")
    return kept.select(*by, exit_step=step.cast(pl.Float64), way=way)


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
        events: EVENTS rows, with any grouping columns joined on [one row a run].
        by: columns whose values name the groups.
        level: two-sided coverage of the interval [fraction].

    Returns:
        Sorted rows: the grouping columns; step [steps]; chance, chance_lo, chance_hi: P(eureka by step) with the
        Rothman-Wilson interval; lost: P(diverged or solved gradually by step) [fraction]; at_risk: runs still
        watched just before the step; n_eureka, n_lost, n_censored: exits at it; n: runs of the group [runs].

    Source: Aalen and Johansen 1978, Scand. J. Stat. 5:141; interval: Rothman 1978, J. Chron. Dis. 31:557.
    Checked by: test_survival.py::test_eight_subjects_match_rs_aalen_johansen and others there
    """
    groups, table = _life_table(events, by=by)
    before_here = (pl.col("n_censored").cum_sum() - pl.col("n_censored")).over(groups)
    table = table.with_columns(variance=_variance_of_chance(groups), early=before_here)
    low, high = wilson(pl.col("chance"), n=_effective_runs(), level=level)
    columns = ("step", "chance", "chance_lo", "chance_hi", "lost", "at_risk", "n_eureka", "n_lost", "n_censored", "n")
    return table.with_columns(chance_lo=low, chance_hi=high).select(*by, *columns)


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
    groups, table = _life_table(events, by=by)
    table = table.with_columns(variance=_variance_of_chance(groups))
    asked = pl.DataFrame({"at": sorted(map(float, at_steps))}, schema={"at": pl.Float64})
    passed = pl.col("step") <= pl.col("at")
    read = (
        table.select(groups).unique(maintain_order=True).join(asked, how="cross")
        .join(table, on=groups, how="left", nulls_equal=True, maintain_order="left_right")
        .group_by([*groups, "at"], maintain_order=True)
        .agg(
            pl.col("chance", "variance").filter(passed).last(),
            pl.col("n").first(),
            early=pl.col("n_censored").filter(pl.col("step") < pl.col("at")).sum(),
            is_known=(pl.col("step").max() >= pl.col("at").first()) | (pl.col("watched").last() <= 1e-9),
        )
    )  # fmt: skip
    low, high = wilson(pl.col("chance"), n=_effective_runs(), level=level)
    read = read.with_columns(chance_lo=low, chance_hi=high)
    estimates = (pl.when("is_known").then(name).alias(name) for name in ("chance", "chance_lo", "chance_hi"))
    return read.select(*by, pl.col("at").alias("step"), *estimates, "n")


def median_step(events: pl.DataFrame, *, by: Sequence[str] = (), level: float = 0.95) -> pl.DataFrame:
    """The step by which half of all runs, those that never succeed included, have had their eureka.

    Returns:
        One row a group: the grouping columns; median_step, median_lo, median_hi [steps], null where not reached; n
        [runs]. The interval is where the chance's band crosses one half.

    Source: Brookmeyer and Crowley 1982, Biometrics 38:29, with Rothman-Wilson bands.
    Checked by: test_survival.py::test_aml_medians_match_r
    """
    half = 0.5 - 1e-12

    def first(column: str) -> pl.Expr:
        return pl.col("step").filter(pl.col(column) >= half).first()

    wanted = {
        "median_step": first("chance"),
        "median_lo": first("chance_hi"),
        "median_hi": first("chance_lo"),
        "n": pl.col("n").first(),
    }
    steps = curve(events, by=by, level=level)
    return steps.group_by(by, maintain_order=True).agg(**wanted) if by else steps.select(**wanted)


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
        T; a run that never succeeds counts T. Student's quantile with n-1 degrees; null interval with one run; with
        no eureka, T(1 - chance_hi) to T. steps_per_eureka, _lo, _hi: steps spent by T over P(eureka by T), which is
        the expected cost when runs that failed are begun again (ERT); Fieller's interval with Student's quantile,
        null where unbounded. All [steps]. n [runs]. All null where no run was watched to T.

    Source: Royston and Parmar 2013, BMC Med. Res. Methodol. 13:152 (restricted mean); Hansen et al. 2021,
        Optim. Methods Softw. 36:114 (ERT, COCO); Fieller 1954, JRSS B 16:175.
    Checked by: test_survival.py::test_restricted_mean_equals_lifelines and ::test_steps_per_eureka_is_cocos_ert
    """
    groups, table = _life_table(events, by=by)
    horizon = pl.lit(float(until_step))
    begun = pl.col("step") <= horizon
    width = (
        pl.min_horizontal(pl.col("step").shift(-1).over(groups).fill_null(horizon), horizon) - pl.col("step")
    ).clip(lower_bound=0.0)
    table = table.with_columns(width=width, begun=begun)
    per_step = _derivatives(groups, horizon=horizon)
    table = table.with_columns(**per_step)
    p1, p2, y = pl.col("n_eureka") / pl.col("at_risk"), pl.col("n_lost") / pl.col("at_risk"), pl.col("at_risk")

    def covariance(one: str, other: str) -> pl.Expr:
        a1, a2, b1, b2 = pl.col(f"{one}_1"), pl.col(f"{one}_2"), pl.col(f"{other}_1"), pl.col(f"{other}_2")
        terms = a1 * b1 * p1 + a2 * b2 * p2 - (a1 * p1 + a2 * p2) * (b1 * p1 + b2 * p2)
        return (terms / y).filter(begun & (y > 0)).sum()

    at_end = pl.col("chance").filter(begun).last()
    summary = {
        "n": pl.col("n").first(),
        "chance": at_end,
        "missed": ((1 - pl.col("chance")) * pl.col("width")).filter(begun).sum(),
        "spent": (pl.col("watched") * pl.col("width")).filter(begun).sum(),
        "v_missed": covariance("missed", "missed"),
        "v_spent": covariance("spent", "spent"),
        "v_chance": covariance("chance", "chance"),
        "v_both": covariance("spent", "chance"),
        "known": (pl.col("step").max() >= horizon) | (pl.col("watched").last() <= 1e-9),
    }
    sums = table.group_by(groups, maintain_order=True).agg(**summary)
    bound = chance_by_step(events, at_steps=[until_step], by=by, level=level)["chance_hi"]
    sums = sums.with_columns(chance_hi=bound, quantile=_student(sums["n"], level=level))
    known = pl.col("known")
    spread = pl.col("quantile") * pl.col("v_missed").clip(lower_bound=0.0).sqrt()
    none_yet = pl.col("chance") <= 0
    low = (
        pl.when(none_yet)
        .then(horizon * (1 - pl.col("chance_hi")))
        .otherwise((pl.col("missed") - spread).clip(lower_bound=0.0))
    )
    high = pl.when(none_yet).then(horizon).otherwise(pl.min_horizontal(pl.col("missed") + spread, horizon))
    ratio_low, ratio_high = _fieller()
    estimates = {
        "restricted_mean": pl.col("missed"),
        "restricted_mean_lo": low,
        "restricted_mean_hi": pl.when(pl.col("quantile").is_not_null() | none_yet).then(high),
        "steps_per_eureka": pl.when(pl.col("chance") > 0).then(pl.col("spent") / pl.col("chance")),
        "steps_per_eureka_lo": pl.when(pl.col("chance") > 0).then(ratio_low),
        "steps_per_eureka_hi": pl.when(pl.col("chance") > 0).then(ratio_high),
    }
    return sums.select(*by, *(pl.when(known).then(each).alias(name) for name, each in estimates.items()), "n")


def _life_table(events: pl.DataFrame, *, by: Sequence[str]) -> tuple[list[str], pl.DataFrame]:
    """Group columns, and one row a (group, exit step) with counts and both curves, from a row at step 0."""
    groups = list(by) or [_ALL]
    left = exits(events, by=by)
    left = left if by else left.with_columns(pl.lit(0).alias(_ALL))
    # exits at step 0 come after the row that the curve starts from
    counts = left.group_by([*groups, "exit_step"]).agg(
        n_eureka=(pl.col("way") == "eureka").sum(),
        n_lost=(pl.col("way") == "lost").sum(),
        n_censored=(pl.col("way") == "censored").sum(),
    )
    ways = ["n_eureka", "n_lost", "n_censored"]
    start = (
        left.select(groups)
        .unique(maintain_order=True)
        .with_columns(exit_step=pl.lit(-1.0), **{way: pl.lit(0, dtype=pl.UInt32) for way in ways})
    )
    table = pl.concat([start, counts.with_columns(pl.col(ways).cast(pl.UInt32)).select(start.columns)])
    table = table.sort([*groups, "exit_step"], nulls_last=True).with_columns(pl.col(ways).cast(pl.Int64))
    leaving = pl.sum_horizontal(ways)
    table = table.with_columns(n=leaving.sum().over(groups)).with_columns(
        at_risk=pl.col("n") - (leaving.cum_sum() - leaving).over(groups)
    )
    hazard = (pl.col("n_eureka") + pl.col("n_lost")) / pl.col("at_risk")
    table = table.with_columns(watched=(1 - hazard).cum_prod().over(groups))
    before = pl.col("watched").shift(1, fill_value=1.0).over(groups)
    return groups, table.with_columns(
        step=pl.col("exit_step").clip(lower_bound=0.0),
        watched_before=before,
        hazard=hazard,
        chance=(before * pl.col("n_eureka") / pl.col("at_risk")).cum_sum().over(groups),
        lost=(before * pl.col("n_lost") / pl.col("at_risk")).cum_sum().over(groups),
    )


def _variance_of_chance(groups: list[str]) -> pl.Expr:
    """Var P(eureka by step) at each row, from running sums [fraction squared]; Greenwood's where nothing is lost.

    Source: the multinomial delta method, expanded so that running sums suffice; see `_derivatives`.
    Checked by: test_survival.py::test_uncensored_chance_is_k_over_n_with_wilsons_interval, ::test_greenwoods_*
    """
    d1, d, y = pl.col("n_eureka"), pl.col("n_eureka") + pl.col("n_lost"), pl.col("at_risk")
    f, before = pl.col("chance"), pl.col("watched_before")
    a = pl.when(y > d).then(d / (y * (y - d))).otherwise(0.0)  # after the last exit nothing can change
    b = before**2 * d1 * (y - d1) / y**3
    c = before * d1 / y**2

    def total(term: pl.Expr) -> pl.Expr:
        return term.cum_sum().over(groups)

    variance = f**2 * total(a) - 2 * f * total(f * a) + total(f**2 * a) + total(b) - 2 * f * total(c) + 2 * total(f * c)
    return pl.when(variance > 1e-14).then(variance).otherwise(0.0)


def _effective_runs() -> pl.Expr:
    """Runs that an uncensored estimate of this variance would have; at 0 and 1, all not stopped early [runs]."""
    f, n = pl.col("chance"), pl.col("n").cast(pl.Float64)
    by_variance = (f * (1 - f) / pl.col("variance")).clip(upper_bound=n)
    return pl.when(pl.col("variance") > 0).then(by_variance).otherwise(n - pl.col("early"))


def _derivatives(groups: list[str], *, horizon: pl.Expr) -> dict[str, pl.Expr]:
    """Of three quantities at T by the hazards of eureka (_1) and loss (_2) at each row's step."""
    f, before = pl.col("chance"), pl.col("watched_before")
    left = (horizon - pl.col("step")).clip(lower_bound=0.0)
    remaining = pl.when(pl.col("hazard") < 1).then(1 - pl.col("hazard")).otherwise(1.0)  # numerators are zero there

    def ahead(term: pl.Expr) -> pl.Expr:  # sum over this and later rows
        return term.reverse().cum_sum().reverse().over(groups)

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


def _student(n: pl.Series, *, level: float) -> pl.Series:
    """Student's two-sided quantile with n-1 degrees [1]; null for one run."""
    return pl.Series([float(student.ppf(0.5 + level / 2, k - 1)) if k > 1 else None for k in n], dtype=pl.Float64)


def _fieller() -> tuple[pl.Expr, pl.Expr]:
    """Interval for spent/chance from their variances, covariance and `quantile` [steps]; null where it has no end."""
    z2 = pl.col("quantile") ** 2
    a, f = pl.col("spent"), pl.col("chance")
    square = f**2 - z2 * pl.col("v_chance")
    cross = a * f - z2 * pl.col("v_both")
    inner = cross**2 - square * (a**2 - z2 * pl.col("v_spent"))
    root = inner.clip(lower_bound=0.0).sqrt()
    has_roots = inner >= 0
    # with square < 0 there is no upper end, and the lower one is the larger root: the same formula
    low = pl.when(has_roots).then(((cross - root) / square).clip(lower_bound=0.0))
    return low, pl.when(has_roots & (square > 0)).then((cross + root) / square)
