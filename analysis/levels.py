"""Levels and times of reaching them: one row a run of what its task allows, where it got, and when for good.

The level time is the second witness: the first step from which the smoothed metric stays `solved_share` of the way from
the task's plateau to its floor. It counts gradual solutions too: P(solved) and P(eureka) are different quantities.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from analysis.detectors import Detector
from analysis.errors import AnalysisError, NoSuchColumn
from analysis.panel import OVER, Array, Panel, cells, first_true, medians_where, panel


def facts(bins: Panel, *, runs: pl.DataFrame, by: Detector) -> pl.DataFrame:
    """What judging a run needs beside its falls.

    Args:
        bins: of a metric that falls.
        runs: RUNS rows.
        by: the detector.

    Returns:
        One row a run, in the order of `runs`: its identity and end; plateau and floor of the task; floor, the lowest
        bin where the task has none; solved_level, solved_step in (solved_after, solved_by]; last_step, last_level;
        detectable_step; null where there is no bin.

    Raises:
        NoSuchColumn: RUNS has no such level.
        AnalysisError: a finished run has no bin.
    """
    sign = 1.0 if by.falls else -1.0
    known = runs.select(
        "run_id",
        "config_id",
        run_status=pl.col("status"),
        end_step=pl.col("steps").cast(pl.Int64),
        floor=sign * _level(by.floor, runs=runs),
        plateau=sign * _level(by.plateau, runs=runs),
    )
    task = pl.DataFrame({OVER: bins.run_ids}).join(known, on=OVER, how="left", maintain_order="left")
    first_level, floor = cells(bins.level, 0 * bins.n_bins), _numbers(task["floor"])
    reference = np.where(np.isnan(plateau := _numbers(task["plateau"])), first_level, plateau)
    solved_level = reference - by.solved_share * (reference - floor)  # unknown where the task has no known floor
    lowest = np.fmin.reduce(bins.level, axis=1, initial=np.nan)
    last = bins.bins >= bins.n_bins[:, None] - 3
    found = {
        OVER: bins.run_ids,
        "floor": np.where(np.isnan(floor), lowest, floor),
        "solved_level": solved_level,
        "n_bins": bins.n_bins,
        "first_step": cells(bins.at_step, 0 * bins.n_bins),
        "last_step": cells(bins.at_step, bins.n_bins - 1),
        "last_level": medians_where(bins.value, last),
        "detectable_step": cells(bins.at_step, np.maximum(bins.n_bins - by.settled_bins, 0)) / by.usual_rise**0.5,
        **_crossed(bins, solved_level, settled_bins=by.settled_bins),
    }
    told = pl.DataFrame(found, nan_to_null=True, schema_overrides={OVER: pl.String})
    rows = known.drop("floor").join(told, on=OVER, how="left", maintain_order="left")
    _require_values(rows, metric=by.metric)
    return rows


def _crossed(bins: Panel, height: Array, *, settled_bins: int) -> dict[str, Array]:
    """Where each run came below a height to stay for some bins; between the bin before it and it, if there is one."""
    with np.errstate(invalid="ignore"):
        is_low = np.pad(bins.level <= height[:, None], ((0, 0), (0, settled_bins - 1)))
    width = bins.level.shape[1]
    bin_ = first_true(np.logical_and.reduce([is_low[:, i : i + width] for i in range(settled_bins)]))
    before = np.where(bin_ > 0, bin_ - 1, bin_)
    fall = cells(bins.level, before) - cells(bins.level, bin_)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip(np.where(fall > 0, (cells(bins.level, before) - height) / fall, 1.0), 0.0, 1.0)
    after, by = cells(bins.at_step, before), cells(bins.at_step, bin_)
    return {"solved_after": after, "solved_step": after * (by / after) ** share, "solved_by": by}


def _numbers(column: pl.Series) -> Array:
    """A column with not-a-number for null."""
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _level(level: str | float | None, *, runs: pl.DataFrame) -> pl.Expr:
    if not isinstance(level, str):
        return pl.lit(level, dtype=pl.Float64)
    if level not in runs.columns:
        known = [name for name in runs.columns if name.startswith("level.")]
        raise NoSuchColumn(f"RUNS: level: got {level!r}; expected one of {', '.join(known) or 'none recorded'}")
    return pl.col(level).cast(pl.Float64)


def _require_values(facts: pl.DataFrame, *, metric: str) -> None:
    bare = facts.filter((pl.col("run_status") == "finished") & pl.col("n_bins").is_null())["run_id"].to_list()
    if bare:
        way_out = "detect on another metric, or leave them out of `runs`"
        raise AnalysisError(
            f"METRICS: {metric}: {len(bare)} finished runs have no finite value (first {bare[0]}); {way_out}"
        )


def require_levels(facts: pl.DataFrame, *, by: Detector) -> None:
    """Refuse runs whose task has no known floor, for a definition that cannot do without."""
    bare = facts.filter(pl.col("n_bins").is_not_null() & pl.col("solved_level").is_null())["run_id"].to_list()
    if bare:
        raise AnalysisError(
            f"RUNS: {by.floor}: {len(bare)} runs have none (first {bare[0]}); {by.name} needs it, contrast-1 does not"
        )


def crossings(facts: pl.DataFrame) -> pl.DataFrame:
    """The same columns from the level crossing alone: the midpoint is the crossing, and the fall is not measured."""
    last_is_below = (pl.col("last_level") <= pl.col("solved_level")) | (pl.col("run_status") == "diverged")
    crossed = pl.col("solved_step").is_not_null()
    return facts.with_columns(
        *unmeasured(),
        is_eureka=crossed & last_is_below,
        kind=pl.when(crossed & ~last_is_below).then(pl.lit("transient")).otherwise(pl.lit("none")),
        after_step=pl.col("solved_after").floor(),
        by_step=pl.col("solved_by").ceil(),
        eureka_step=pl.col("solved_step"),
        after_level=pl.col("last_level"),
        n_drops=crossed.cast(pl.Int64),
    )


def unmeasured() -> list[pl.Expr]:
    """What a definition that only knows a step cannot say of the fall: nulls."""
    names = (
        "onset_step", "completion_step", "plateau_level", "rise_ratio", "relative_gap", "plateau_ratio", "drift"
    )  # fmt: skip
    return [pl.lit(None, dtype=pl.Float64).alias(name) for name in names]


def level_times(
    digest: pl.DataFrame, *, runs: pl.DataFrame, by: Detector, shares: Sequence[float] = (0.3, 0.5, 0.7)
) -> pl.DataFrame:
    """When each run was a share of the way from plateau to floor for good, at several shares.

    Args:
        digest: of the detector's metric, as it is stored.
        runs: RUNS rows.
        by: says the metric, its sign, and the task's levels.
        shares: of the way [1].

    Returns:
        One row a (run, share): run_id, share, solved_step [steps]; null where it was not reached.

    Checked by: test_detect_drops.py::test_level_times_come_later_for_a_deeper_level
    """
    falling = panel(digest if by.falls else digest.with_columns(value=-pl.col("value")))
    parts = [
        facts(falling, runs=runs, by=replace(by, solved_share=share)).select(
            OVER, pl.lit(float(share)).alias("share"), "solved_step"
        )
        for share in shares
    ]
    return (
        pl.concat(parts)
        if parts
        else pl.DataFrame(schema={OVER: pl.String, "share": pl.Float64, "solved_step": pl.Float64})
    )
