"""The literature's rules for an abrupt transition, as far as they are rules; each reads a run's bins as evaluations.

They are here so that a published number can be set beside ours, not because they are good: a threshold cannot tell a
eureka-moment from ordinary decay, and the point of greatest acceleration exists in every run.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from analysis.detectors import Detector
from analysis.levels import require_levels, unmeasured
from analysis.panel import OVER, Panel, cells, medians

_AT = ("after_step", "eureka_step", "by_step")
_SIDE = 3  # sessions on each side of a sudden gain


def judged(panel: Panel, facts: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
    """Facts, and where the detector's rule fires; the columns of `levels.crossings`.

    Args:
        panel: of a metric that falls.
        facts: rows of `levels.facts`.
        by: a detector whose method is in RULES.
    """
    bins = panel.frame().with_columns(before=pl.col("at_step").shift(1).over(OVER))
    bins = bins.with_columns(pl.col("before").fill_null(pl.col("at_step")))
    fired = RULES[by.method](bins, facts, by)
    rows = facts.join(fired.select(OVER, *_AT), on=OVER, how="left", maintain_order="left")
    fires = pl.col("eureka_step").is_not_null()
    return rows.with_columns(
        *unmeasured(),
        is_eureka=fires,
        kind=pl.lit("none"),
        after_step=pl.col("after_step").floor(),
        by_step=pl.col("by_step").ceil(),
        after_level=pl.col("last_level"),
        n_drops=fires.cast(pl.Int64),
    )


def _first(bins: pl.DataFrame, _: pl.DataFrame, by: Detector) -> pl.DataFrame:
    """The first of so many evaluations in a row that are at least as good as the threshold."""
    good = pl.col("value") <= (by.rule.threshold if by.falls else -by.rule.threshold)
    ahead = good.cast(pl.Int32).rolling_min(by.rule.in_a_row).shift(1 - by.rule.in_a_row).over(OVER)
    return _earliest(bins.filter(ahead == 1), at=pl.col("at_step"))


def _gains(bins: pl.DataFrame, facts: pl.DataFrame, by: Detector) -> pl.DataFrame:
    """The largest change between neighbouring sessions that is large, relatively large, and stable on both sides.

    The first criterion's 7 points of a depression scale become a quarter of the way from plateau to floor.
    """
    sessions = (
        bins.group_by(OVER, session=pl.col("bin") // by.rule.session_bins)
        .agg(value=pl.col("value").median(), at_step=pl.col("at_step").median())
        .sort(OVER, "session")
    )
    value = pl.col("value")
    mean, spread = value.rolling_mean(_SIDE), value.rolling_var(_SIDE)
    sessions = sessions.with_columns(
        gain=(value - value.shift(-1)).over(OVER),
        next_at=pl.col("at_step").shift(-1).over(OVER),
        mean_fall=(mean - mean.shift(-_SIDE)).over(OVER),
        pooled=((spread + spread.shift(-_SIDE)) / 2).sqrt().over(OVER),
        first_value=value.first().over(OVER),
    ).join(facts.select(OVER, "plateau", "floor"), on=OVER)
    scale = pl.col("plateau").fill_null(pl.col("first_value")) - pl.col("floor")
    is_gain = (
        (pl.col("gain") >= by.rule.least_gain * scale)
        & (pl.col("gain") >= by.rule.least_gain * (value - pl.col("floor")))
        & (pl.col("mean_fall") > by.rule.critical * pl.col("pooled"))
    )
    largest = sessions.filter(is_gain).sort("gain", descending=True).group_by(OVER, maintain_order=True).first()
    middle = (pl.col("at_step") * pl.col("next_at")).sqrt()
    return largest.select(OVER, after_step="at_step", eureka_step=middle, by_step="next_at")


def _acceleration(bins: pl.DataFrame, _: pl.DataFrame, by: Detector) -> pl.DataFrame:
    """Where the second difference is most downwards; every run that is long enough has such a place."""
    apart, value = by.rule.apart_bins, pl.col("value")
    second = (value.shift(-apart) - 2 * value + value.shift(apart)).over(OVER)
    found = bins.with_columns(second=second).drop_nulls("second").sort("second")
    return _earliest(found, at=pl.col("at_step"))


def _epoch(bins: pl.DataFrame, facts: pl.DataFrame, by: Detector) -> pl.DataFrame:
    """The end of the first epoch that is past the level, as are all after it; an epoch without a bin is not there."""
    require_levels(facts, by=by)
    ends = facts.select(OVER, "solved_level", epoch_steps=pl.col("end_step") / by.rule.epochs)
    epochs = (
        bins.join(ends, on=OVER)
        .with_columns(epoch=(pl.col("at_step") / pl.col("epoch_steps")).floor())
        .group_by(OVER, "epoch")
        .agg(pl.col("value").median(), pl.col("solved_level", "epoch_steps").first())
        .sort(OVER, "epoch")
        .with_columns(worst_ahead=pl.col("value").reverse().cum_max().reverse().over(OVER))
    )
    at = (pl.col("epoch") + 1) * pl.col("epoch_steps")
    past = epochs.filter(pl.col("worst_ahead") <= pl.col("solved_level"))
    return _earliest(past.with_columns(before=at - pl.col("epoch_steps")), at=at)


def _earliest(bins: pl.DataFrame, *, at: pl.Expr) -> pl.DataFrame:
    """The first row of each run: where the rule fires, and the step before."""
    first = bins.group_by(OVER, maintain_order=True).first()
    return first.select(OVER, after_step="before", eureka_step=at, by_step=at)


RULES: dict[str, Callable[[pl.DataFrame, pl.DataFrame, Detector], pl.DataFrame]] = {
    "first": _first,
    "gains": _gains,
    "acceleration": _acceleration,
    "epoch": _epoch,
}


def breakthroughness(bins: Panel) -> pl.DataFrame:
    """How much of a run's change happens in few of its bins: sign * (best - worst) / root of the median squared step.

    Args:
        bins: of a metric that falls.

    Returns:
        One row a run: run_id, breakthroughness [1]; negative where the run got worse, null where most bins are alike.

    Source: Srivastava et al. 2022, arXiv 2206.04615, appendix on linearity and breakthroughness.
    Checked by: test_detect_rules.py::test_breakthroughness_is_the_formula_on_a_small_example
    """
    if not len(bins.n_bins):
        return pl.DataFrame(schema={OVER: pl.String, "breakthroughness": pl.Float64})
    best, worst = np.nanargmin(bins.value, axis=1), np.nanargmax(bins.value, axis=1)
    most = cells(bins.value, worst) - cells(bins.value, best)
    steps = np.sqrt(medians(np.diff(bins.value, axis=1) ** 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.where(steps > 0, np.sign(best - worst) * most / steps, np.nan)
    return pl.DataFrame({OVER: bins.run_ids, "breakthroughness": score}, nan_to_null=True)
