"""Binomial intervals against published numbers and scipy."""

import math

import polars as pl
import pytest
from scipy.stats import binomtest, quantile_test

from analysis.errors import AnalysisError
from analysis.interval import binomial_interval, median_interval, wilson

# Newcombe 1998, Stat. Med. 17:857, table I: successes, n, Wilson, Clopper-Pearson
NEWCOMBE = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("k", "n", "score", "exact"), NEWCOMBE)
def test_intervals_equal_newcombes_published_ones(k, n, score, exact):
    assert binomial_interval(k, n=n) == pytest.approx(score, abs=5e-5)
    assert binomial_interval(k, n=n, method="exact") == pytest.approx(exact, abs=5e-5)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_expression_equals_scipys_wilson(level):
    frame = pl.DataFrame({"k": [0, 1, 4, 8], "n": [8, 8, 8, 8]})
    low, high = wilson(pl.col("k") / pl.col("n"), n=pl.col("n"), level=level)
    for k, n, lo, hi in frame.with_columns(lo=low, hi=high).iter_rows():
        assert (lo, hi) == pytest.approx(tuple(binomtest(k, n).proportion_ci(level, method="wilson")), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(1, 9), (5, 10), (81, 263), (8, 9)])
def test_jeffreys_equals_statsmodels(k, n):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    theirs = proportion.proportion_confint(k, n, method="jeffreys")
    assert binomial_interval(k, n=n, method="jeffreys") == pytest.approx(theirs, abs=1e-10)


def test_jeffreys_reaches_the_ends_where_all_or_none_succeed():
    assert binomial_interval(0, n=10, method="jeffreys")[0] == 0.0
    assert binomial_interval(10, n=10, method="jeffreys")[1] == 1.0


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5)])
def test_more_successes_than_runs_are_refused(k, n):
    with pytest.raises(AnalysisError, match="expected between 0 and n"):
        binomial_interval(k, n=n)


def test_no_runs_leave_the_probability_unknown():
    assert binomial_interval(0, n=0) == (0.0, 1.0)
    low, high = wilson(pl.lit(0.0), n=pl.lit(0.0), level=0.95)
    assert pl.select(low.alias("lo"), high.alias("hi")).row(0) == (0.0, 1.0)


def test_a_level_outside_the_unit_interval_is_refused():
    with pytest.raises(AnalysisError, match="expected a number between 0 and 1"):
        wilson(pl.lit(0.5), n=pl.lit(8), level=95)


@pytest.mark.parametrize("n", [1, 5, 6, 8, 21, 60])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_a_median_equals_scipys(n, level):
    ordered = [float(i**2) for i in range(n)]
    middle, low, high = median_interval(ordered, level=level)
    theirs = quantile_test(ordered, p=0.5).confidence_interval(level)
    assert middle == pl.Series(ordered).median()
    if low is None:
        assert math.isnan(theirs.low)
        assert math.isnan(theirs.high)
    else:
        assert (low, high) == (theirs.low, theirs.high)
