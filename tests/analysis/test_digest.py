"""Digests: bins that follow their rule, and medians that a plain loop confirms."""

import math

import numpy as np
import polars as pl
import pytest
from curves import tables

from analysis.digest import END_SHARE, GROWTH, bin_of, digest
from analysis.errors import NoSuchColumn


def bins(steps: int, bin_steps: int = 16) -> np.ndarray:
    frame = pl.DataFrame({"step": np.arange(steps), "steps": steps})
    return frame.select(bin_of(pl.col("step"), steps=pl.col("steps"), bin_steps=bin_steps)).to_series().to_numpy()


@pytest.mark.parametrize("steps", [1, 17, 300, 400, 1500, 20_000, 300_000])
def test_bin_widths_follow_the_promised_rule(steps):
    number = bins(steps)
    assert number[0] == 0
    assert np.all(np.diff(number) >= 0)
    assert np.all(np.diff(number) <= 1)
    first = np.searchsorted(number, np.unique(number))
    widths, middles = np.diff(first), (first[:-1] + first[1:]) / 2
    for width, middle in zip(widths, middles, strict=True):
        promised = max(16, min(GROWTH * middle, (steps - middle) / END_SHARE))
        assert promised * 0.85 - 1 <= width <= promised * 1.15 + 1


def test_a_tail_of_two_hundred_steps_has_at_least_eight_bins():
    for end in (700, 2_000, 20_000, 200_000):
        number = bins(end)
        assert number[-1] - number[end - 200] >= 8


def test_medians_equal_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    curves = [rng.lognormal(size=n).astype(np.float32) for n in (40, 900, 3000)]
    runs, metrics = tables(curves)
    found = digest(metrics, runs=runs)
    for run_id, curve in zip(runs["run_id"], curves, strict=True):
        number = bins(len(curve))
        slow = [float(np.median(curve[number == b].astype(float))) for b in np.unique(number)]
        mine = found.filter(pl.col("run_id") == run_id)
        assert mine["value"].to_list() == pytest.approx(slow)
        assert mine["bin"].to_list() == list(range(len(slow)))
        assert mine["n_steps"].sum() == len(curve)


def test_values_that_are_not_finite_are_dropped_not_averaged():
    curve = np.r_[np.full(50, 1.0), np.nan, np.inf, -np.inf]
    found = digest(tables([curve])[1], runs=tables([curve])[0])
    assert set(found["value"]) == {1.0}
    assert found["n_steps"].sum() == 50


def test_steps_without_the_measure_leave_no_empty_bins():
    runs, metrics = tables([np.arange(1000.0)])
    sparse = metrics.with_columns(entropy=pl.when(pl.col("step") % 50 == 0).then(pl.col("loss")))
    found = digest(sparse, runs=runs, metric="entropy")
    assert found.height == 20
    assert found["bin"].to_list() == list(range(20))


def test_an_unknown_metric_names_the_known_ones():
    runs, metrics = tables([np.ones(20)])
    with pytest.raises(NoSuchColumn, match="got 'lost'; expected one of loss"):
        digest(metrics, runs=runs, metric="lost")


def test_about_a_hundred_bins_hold_a_long_run():
    assert bins(20_000)[-1] < 160
    assert bins(1_000_000)[-1] < math.ceil(16 * math.log2(1_000_000))
