"""Falls judged: whether each was far, abrupt, from a plateau, and lasting.

A eureka-moment is a plateau, then a fall that takes at least half of what was left to the floor, no longer than the
wait for it (completion at most twice the step of onset), starting from a plateau that was flat and had been seen,
and that lasts. Lengths are ratios of steps and heights ratios of loss above floor, so nothing depends on scale.

Source: statistics.md section 1.2.
"""

import numpy as np
import polars as pl

from analysis.detectors import Detector
from analysis.drops import find_drops
from analysis.panel import OVER, Panel, cells, first_true

_BEGUN = 0.2  # of what was left to the floor: below, it may be noise [1]


def falls(bins: Panel, facts: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
    """Every fall of every run with the ratios that it is judged by; nothing here depends on a threshold of `by`."""
    drops = find_drops(bins, by=by.contrast).join(facts, on=OVER)
    return _with_drift(_with_previous_end(drops), bins).with_columns(
        relative_gap=pl.col("gap")
        / pl.when(pl.col("plateau_level") > pl.col("floor")).then(pl.col("plateau_level") - pl.col("floor")),
        rise_ratio=pl.col("completion_step") / pl.col("onset_step"),
        plateau_ratio=pl.col("onset_step") / pl.col("previous_end"),
    )


def with_verdicts(falls: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
    """Adds `is_eureka`, `is_relapse` (it was one, and did not last) and `is_falling` (the run ended over it).

    A fall whose contrast never went down again is one that the run ended over even where nine tenths of it were never
    reached, or its last bins are too few to say how far it went: then its contrast says so.
    """
    halfway = pl.col("gap") * 0.5
    far = (pl.col("relative_gap") >= by.least_gap) & (
        pl.col("plateau").is_null()
        | pl.col("solved_level").is_null()
        | (pl.col("after_level") <= pl.col("solved_level"))
    )
    waited = (
        (pl.col("drift") <= by.most_drift)
        & (pl.col("plateau_ratio") >= by.least_plateau_ratio)
        & (pl.col("onset_bin") - pl.col("previous_bin") >= by.least_plateau_bins)
    )
    abrupt = waited & (pl.col("rise_ratio") <= by.most_rise)
    unfinished = pl.col("hits_end") & pl.col("completion_step").is_null()
    so_far = pl.when(unfinished).then(pl.col("last_step") / pl.col("onset_step")).otherwise("rise_ratio")
    seen = pl.when("hits_end").then(pl.max_horizontal("contrast", "gap")).otherwise("gap")
    begun = seen >= _BEGUN * pl.col("gap") / pl.col("relative_gap")
    settled = pl.col("bins_after") >= by.settled_bins
    holds = pl.col("median_after") < pl.col("plateau_level") - halfway
    held_to_end = (pl.col("last_level") < pl.col("plateau_level") - 0.8 * halfway) | (
        pl.col("run_status") == "diverged"
    )
    return falls.with_columns(
        is_eureka=(far & abrupt & settled & holds & held_to_end).fill_null(False),
        is_relapse=(far & abrupt & settled & ~(holds & held_to_end)).fill_null(False),
        is_falling=(
            begun & waited & (so_far <= by.most_rise) & ~settled & (pl.col("run_status") != "diverged")
        ).fill_null(False),
    )


def judged(falls: pl.DataFrame, facts: pl.DataFrame, *, by: Detector) -> pl.DataFrame:
    """Facts, the fall that counts most, and what kind of curve the run's falls make it [one row a run]."""
    best = (
        with_verdicts(falls, by=by)
        .sort("is_eureka", "gap", "eureka_step", descending=[True, True, False])
        .group_by(OVER, maintain_order=True)
        .agg(
            pl.col(
                "after_step", "by_step", "onset_step", "eureka_step", "completion_step", "plateau_level",
                "after_level", "rise_ratio", "relative_gap", "drift", "plateau_ratio",
            ).first(),
            pl.col("is_eureka", "is_relapse", "is_falling").any(),
            n_drops=(pl.col("relative_gap") >= 0.1).sum().cast(pl.Int64),
        )
    )  # fmt: skip
    flags = pl.col("is_eureka", "is_relapse", "is_falling").fill_null(False)
    rows = facts.join(best, on=OVER, how="left", maintain_order="left").with_columns(
        flags, pl.col("n_drops").fill_null(0)
    )
    was_solved = pl.col("solved_step").is_not_null()
    is_solved = was_solved & (pl.col("last_level") <= pl.col("solved_level"))
    kind = (
        pl.when(pl.col("is_falling"))
        .then(pl.lit("in_transition"))
        .when(pl.col("is_relapse") | (was_solved & ~is_solved))
        .then(pl.lit("transient"))
        .when(is_solved)
        .then(pl.lit("gradual"))
        .otherwise(pl.lit("none"))
    )
    return rows.with_columns(kind=kind)


def _with_previous_end(falls: pl.DataFrame) -> pl.DataFrame:
    """Adds where the last fall of a quarter of the size ended before each: `previous_end` [steps], `previous_bin`."""
    end = pl.coalesce("completion_step", "eureka_step")
    others = falls.select(
        OVER, other=pl.col("eureka_step"), other_gap=pl.col("gap"), other_end=end, other_bin=pl.col("completion_bin")
    )
    earlier = (
        falls.select(OVER, "eureka_step", "gap")
        .join(others, on=OVER)
        .filter((pl.col("other") < pl.col("eureka_step")) & (pl.col("other_gap") >= 0.25 * pl.col("gap")))
        .group_by(OVER, "eureka_step")
        .agg(previous_end=pl.col("other_end").max(), previous_bin=pl.col("other_bin").max())
    )
    return falls.join(earlier, on=[OVER, "eureka_step"], how="left").with_columns(
        pl.col("previous_end").fill_null(pl.col("first_step")), pl.col("previous_bin").fill_null(0)
    )


def _with_drift(falls: pl.DataFrame, bins: Panel) -> pl.DataFrame:
    """Adds `drift`: how far the metric fell in the octave before onset, or since the fall before that, in gaps [1]."""
    since = falls.select(pl.max_horizontal(pl.col("onset_step") / 2, "previous_end")).to_series().to_numpy()
    rows = pl.DataFrame({OVER: bins.run_ids, "row": np.arange(len(bins.run_ids))})
    row = falls.select(OVER).join(rows, on=OVER, how="left", maintain_order="left")["row"].to_numpy()
    with np.errstate(invalid="ignore"):
        then = cells(bins.level[row], first_true(bins.at_step[row] >= since[:, None]))
    level_then = pl.Series("level_then", then, nan_to_null=True)
    return falls.with_columns(drift=(level_then - pl.col("plateau_level")) / pl.col("gap"))
