"""PROBES for people: means over runs, with Student's interval and the number of runs."""

from collections.abc import Sequence

import polars as pl
from scipy.stats import t

PLACE = ("intervention", "options", "at", "layer", "head", "item", "metric")


def means(probes: pl.DataFrame, *, level: float = 0.95, by: Sequence[str] = PLACE) -> pl.DataFrame:
    """Mean of each reading over runs.

    Args:
        probes: PROBES rows, with `at`: what calls their step, such as a step's number, or `before`.
        level: two-sided coverage of the interval, in (0, 1) [fraction].
        by: what tells readings apart, in the order in which rows come.

    Returns:
        One row a reading: its place; mean, lo, hi [the metric's; lo and hi null for a single run], runs. Runs whose
        value is not a number are left out, and counted in `not_finite`.

    Source: Student 1908. Computed by scipy.
    Checked by: test_probe_table.py::test_means_and_intervals_equal_scipys
    """
    is_finite = pl.col("value").is_finite()
    value = pl.col("value").filter(is_finite)
    found = probes.group_by(by, maintain_order=True).agg(
        mean=value.mean(), sd=value.std(), runs=value.count().cast(pl.Int64), not_finite=(~is_finite).sum()
    )
    quantiles = [float(t.ppf(0.5 + level / 2, n - 1)) if n > 1 else None for n in found["runs"]]
    half = pl.Series(quantiles, dtype=pl.Float64) * found["sd"] / found["runs"].cast(pl.Float64).sqrt()
    ends = {"lo": found["mean"] - half, "hi": found["mean"] + half}
    return found.with_columns(**ends).select(*by, "mean", "lo", "hi", "runs", "not_finite")
