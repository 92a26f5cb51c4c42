"""Matrices of bins hold what the digest holds, and their medians are Polars' own."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.panel import cells, first_true, last_true, medians, medians_where, panel, trailing_medians

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def digest_of(counts, *, seed=0):
    rng = np.random.default_rng(seed)
    bins = np.concatenate([np.arange(n) for n in counts])
    return pl.DataFrame(
        {
            "run_id": [f"{i:02}" for i, n in enumerate(counts) for _ in range(n)],
            "bin": bins.astype(np.uint32),
            "at_step": 16.0 * bins + 7.5,
            "value": rng.normal(size=len(bins)),
            "n_steps": np.full(len(bins), 16, np.uint32),
        }
    )


def test_a_panel_holds_each_run_in_its_row():
    found = panel(digest_of([3, 1, 2]))
    assert found.run_ids.to_list() == ["00", "01", "02"]
    assert found.n_bins.tolist() == [3, 1, 2]
    assert np.isfinite(found.value).sum(axis=1).tolist() == [3, 1, 2]
    assert found.at_step[0].tolist() == [7.5, 23.5, 39.5]


@given(lengths, st.integers(0, 99))
def test_order_of_rows_changes_nothing(counts, seed):
    digest = digest_of(counts)
    shuffled = panel(digest.sample(fraction=1, shuffle=True, seed=seed)).frame().sort("run_id", "bin")
    assert shuffled.equals(panel(digest).frame())


@given(lengths)
def test_a_frame_of_a_panel_is_the_digest_with_its_levels(counts):
    digest = digest_of(counts)
    found = panel(digest).frame()
    level = pl.col("value").rolling_median(3, center=True).over("run_id").fill_null(pl.col("value"))
    expected = digest.with_columns(level=level, n_bins=pl.len().over("run_id"))
    for name in ("run_id", "value", "at_step", "level"):
        assert found[name].equals(expected[name])
    assert found["n_bins"].to_list() == expected["n_bins"].to_list()


@given(lengths, st.integers(1, 8), st.integers(1, 3))
def test_trailing_medians_are_those_of_polars(counts, width, least):
    least = min(least, width)
    digest = digest_of(counts)
    found = panel(digest)
    mine = trailing_medians(found.value, width=width, least=least)[found.is_bin]
    theirs = pl.col("value").rolling_median(width, min_samples=least).shift(1).over("run_id")
    np.testing.assert_allclose(
        mine, digest.select(theirs.fill_null(np.nan)).to_series().to_numpy(), rtol=1e-12, atol=1e-15
    )


@given(arrays(float, (3, 7), elements=st.floats(-9, 9)), arrays(bool, (3, 7)))
def test_medians_of_some_are_numpys(matrix, keep):
    for row, mask, found in zip(matrix, keep, medians_where(matrix, keep), strict=True):
        assert found == pytest.approx(np.median(row[mask]), nan_ok=True) if mask.any() else np.isnan(found)


def test_too_few_numbers_have_no_median():
    rows = np.array([[1.0, np.nan, np.nan], [1.0, 3.0, np.nan], [np.nan] * 3])
    np.testing.assert_array_equal(medians(rows, least=2), [np.nan, 2.0, np.nan])
    assert medians(np.zeros((2, 0))).shape == (2,)


def test_places_that_are_nowhere_are_not_a_number():
    mask = np.array([[False, True, True], [False, False, False]])
    assert (first_true(mask).tolist(), last_true(mask).tolist()) == ([1, -1], [2, -1])
    assert first_true(np.zeros((2, 0), dtype=bool)).tolist() == [-1, -1]
    np.testing.assert_array_equal(cells(np.array([[5.0, 6.0], [7.0, 8.0]]), np.array([1, -1])), [6.0, np.nan])


def test_a_digest_without_rows_is_an_empty_panel():
    found = panel(digest_of([1]).clear())
    assert (found.value.shape, found.frame().height) == ((0, 0), 0)
