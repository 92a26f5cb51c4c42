"""Stage one of detection: each run's curve as about a hundred bins, each a median.

Bins are narrow where an event needs them to be. Early on they are `bin_steps` long; later they grow with the step
(about 16 an octave), so that a drop at step 500 and one at step 50,000 are seen alike; towards the run's last step they
shrink again. The last rule is ours: a run that is stopped 200 steps after its event has the event in the last
percent of its log axis, where 16 bins an octave would leave it less than one bin of after-level.

The bin number is a pure expression of the step and the run's length, so the streaming engine can group 10^9 rows, and a
digest can be written when its run ends. Non-finite values are dropped, never averaged.
"""

from collections.abc import Collection

import polars as pl

from analysis.errors import NoSuchColumn

GROWTH = 2 ** (1 / 16) - 1  # a bin's width over its step, once widths grow: 16 bins an octave
END_SHARE = 8  # towards the end, a bin is at most an eighth of the steps that are left

DIGEST_SCHEMA = {
    "run_id": pl.String,
    "bin": pl.UInt32,
    "at_step": pl.Float64,
    "value": pl.Float64,
    "n_steps": pl.UInt32,
}


def bin_of(step: pl.Expr, *, steps: pl.Expr, bin_steps: int) -> pl.Expr:
    """Which bin a step falls into: the integral of 1/width, rounded down.

    The width is max(bin_steps, min(GROWTH * step, (steps - step) / END_SHARE)), so the integral is linear, logarithmic,
    logarithmic backwards, linear.

    Args:
        step: the step [steps].
        steps: how many steps the run has [steps].
        bin_steps: the narrowest width [steps].

    Returns:
        The bin number [int32], non-decreasing in step; numbers may be skipped.

    Checked by: test_digest.py::test_bin_widths_follow_the_promised_rule
    """
    s, end = step.cast(pl.Float64), steps.cast(pl.Float64)
    turn = end / (1 + GROWTH * END_SHARE)  # where growing meets shrinking
    first_growth = bin_steps / GROWTH
    tail = bin_steps * END_SHARE  # this many last steps are linear again
    at_growth = 1 / GROWTH
    at_turn = at_growth + (turn / first_growth).log() / GROWTH
    at_tail = at_turn + END_SHARE * ((end - turn) / tail).log()
    number = (
        pl.when((turn <= first_growth) | (s < first_growth))
        .then(s / bin_steps)
        .when(s < turn)
        .then(at_growth + (s / first_growth).log() / GROWTH)
        .when(s < end - tail)
        .then(at_turn + END_SHARE * ((end - turn) / pl.max_horizontal(end - s, 1.0)).log())
        .otherwise(at_tail + (s - end + tail) / bin_steps)
    )
    return number.floor().cast(pl.Int32)


def digest(metrics: pl.LazyFrame, *, runs: pl.DataFrame, metric: str = "loss", bin_steps: int = 16) -> pl.DataFrame:
    """The median of a metric over each bin of each run.

    Args:
        metrics: METRICS rows [one row a (run, step)].
        runs: RUNS rows; their `run_id` and `steps` say which runs, and where each ends.
        metric: the METRICS column to digest.
        bin_steps: the narrowest bin [steps].

    Returns:
        One row a non-empty bin, sorted: run_id; bin, consecutive from 0; at_step, the middle of the logged steps in it
        [steps]; value, their median [the metric's unit]; n_steps, how many were finite [steps].

    Raises:
        NoSuchColumn: METRICS has no such metric.

    Checked by: test_digest.py::test_medians_equal_those_of_a_plain_loop
    """
    _require(metric, metrics.collect_schema().names())
    ends = runs.lazy().select("run_id", "steps")
    value = pl.col(metric).cast(pl.Float64)
    finite = (
        metrics.select("run_id", "step", metric)
        .filter(value.is_finite())
        .join(ends, on="run_id", how="inner")
        .with_columns(bin_of(pl.col("step"), steps=pl.col("steps"), bin_steps=bin_steps).alias("raw_bin"))
    )
    binned = finite.group_by("run_id", "raw_bin").agg(
        at_step=((pl.col("step").min() + pl.col("step").max()) / 2).clip(lower_bound=0.5),  # it has a logarithm
        value=value.median(),
        n_steps=pl.len().cast(pl.UInt32),
    )
    return (
        binned.collect(engine="streaming")
        .sort("run_id", "raw_bin")
        .with_columns(bin=pl.int_range(pl.len(), dtype=pl.UInt32).over("run_id"))
        .select(pl.col(name).cast(dtype) for name, dtype in DIGEST_SCHEMA.items())
    )


def _require(metric: str, names: Collection[str]) -> None:
    if metric not in names:
        measures = sorted(set(names) - {"run_id", "block", "step"})
        raise NoSuchColumn(f"METRICS: metric: got {metric!r}; expected one of {', '.join(measures)}")
