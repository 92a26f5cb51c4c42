"""A digest as matrices, a row a run and a column a bin: what detection computes with, all runs at once.

Windows over bins are slices of a matrix, so no run is looped over and none is grouped by name: a thousand runs take a
few hundredths of a second. Past a run's last bin stands not-a-number, which no median counts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
OVER = "run_id"
_ROWS = 2048  # runs whose windows are held at once: 40 MB of the widest


@dataclass(frozen=True)
class Panel:
    """Bins of R runs, of which the longest has B.

    Attributes:
        run_ids: in the order of the rows [R].
        n_bins: of each run [R].
        at_step: middle of each bin [R, B; steps].
        value: its median [R, B; metric].
        level: the median of each bin and its two neighbours, of which the ends have none [R, B; metric].
        n_steps: how many it holds [R, B; steps].
    """

    run_ids: pl.Series
    n_bins: Counts
    at_step: Array
    value: Array
    level: Array
    n_steps: Array

    @property
    def bins(self) -> Counts:
        """Numbers of the columns [B]."""
        return np.arange(self.value.shape[1])

    @property
    def is_bin(self) -> Mask:
        """Where a run has a bin [R, B]."""
        return np.asarray(self.bins < self.n_bins[:, None])

    def frame(self) -> pl.DataFrame:
        """One row a bin: run_id, bin, at_step, value, level, n_steps, n_bins."""
        there = self.is_bin
        columns = {name: getattr(self, name)[there] for name in ("at_step", "value", "level", "n_steps")}
        bins = np.broadcast_to(self.bins, there.shape)[there]
        named = {OVER: self.run_ids.gather(np.repeat(np.arange(len(self.n_bins)), self.n_bins))}
        return pl.DataFrame(named | {"bin": bins} | columns | {"n_bins": np.repeat(self.n_bins, self.n_bins)})


def panel(digest: pl.DataFrame) -> Panel:
    """The rows of `digest.digest` as matrices.

    Args:
        digest: of a metric that falls (negate one that rises); bins are counted from 0 in each run.

    Checked by: test_panel.py::test_a_panel_holds_each_run_in_its_row
    """
    stated = digest["bin"].to_numpy()
    begins, n_bins, bins = _stretches(digest[OVER])
    if not np.array_equal(stated, bins):
        digest = digest.sort(OVER, "bin")
        begins, n_bins, bins = _stretches(digest[OVER])
    rows = np.repeat(np.arange(len(begins)), n_bins)

    def matrix(name: str) -> Array:
        whole = np.full((len(begins), int(n_bins.max(initial=0))), np.nan)
        whole[rows, bins] = digest[name].to_numpy()
        return whole

    value = matrix("value")
    return Panel(
        run_ids=digest[OVER].gather(begins),
        n_bins=n_bins,
        at_step=matrix("at_step"),
        value=value,
        level=_of_three(value, n_bins),
        n_steps=matrix("n_steps"),
    )


def _stretches(ids: pl.Series) -> tuple[Counts, Counts, Counts]:
    """Where each stretch of one run begins, how long it is, and the place of each row in its own."""
    begins = np.flatnonzero(ids.ne_missing(ids.shift(1)).to_numpy())
    counts = np.diff(np.r_[begins, len(ids)])
    return begins, counts, np.arange(len(ids)) - np.repeat(begins, counts)


def _of_three(value: Array, n_bins: Counts) -> Array:
    level = value.copy()
    left, middle, right = value[:, :-2], value[:, 1:-1], value[:, 2:]
    low, high = np.minimum(left, middle), np.maximum(left, middle)
    inner = np.arange(1, value.shape[1] - 1) < n_bins[:, None] - 1
    level[:, 1:-1] = np.where(inner, np.maximum(low, np.minimum(high, right)), middle)
    return level


def medians(rows: Array, *, counts: Counts | None = None, least: int = 1) -> Array:
    """The median of each row's numbers, over the last axis; not-a-number where there are fewer than `least`.

    `counts` says how many numbers each row has, where that is known.
    """
    if not rows.shape[-1]:
        return np.full(rows.shape[:-1], np.nan)
    ordered = np.sort(rows, axis=-1)
    counts = np.isfinite(rows).sum(axis=-1) if counts is None else counts

    def at(places: Counts) -> Array:
        return np.take_along_axis(ordered, np.maximum(places, 0)[..., None], axis=-1)[..., 0]

    middle = (at((counts - 1) // 2) + at(counts // 2)) / 2
    return np.where(counts >= max(least, 1), middle, np.nan)


def trailing_medians(matrix: Array, *, width: int, least: int) -> Array:
    """The median of the `width` columns before each, of as many as there are, at least `least` [R, B].

    Checked by: test_panel.py::test_trailing_medians_are_those_of_polars
    """
    found = np.empty_like(matrix)
    for low in range(0, len(matrix), _ROWS):
        part = matrix[low : low + _ROWS]
        padded = np.pad(part, ((0, 0), (width, 0)), constant_values=np.nan)
        so_far = np.isfinite(padded).cumsum(axis=1)
        counts = so_far[:, width - 1 : -1] - np.pad(so_far[:, : -width - 1], ((0, 0), (1, 0)))
        windows = sliding_window_view(padded[:, :-1], width, axis=1)
        found[low : low + _ROWS] = medians(windows, counts=counts, least=least)
    return found


def medians_where(matrix: Array, keep: Mask) -> Array:
    """The median of each row's kept numbers [R]; not-a-number where none is."""
    return medians(np.where(keep, matrix, np.nan))


def first_true(mask: Mask) -> Counts:
    """The first column where each row is true; -1: nowhere [R]."""
    return np.where(mask.any(axis=1), mask.argmax(axis=1), -1) if mask.shape[1] else np.full(len(mask), -1)


def last_true(mask: Mask) -> Counts:
    """The last column where each row is true; -1: nowhere [R]."""
    found = first_true(mask[:, ::-1])
    return np.where(found >= 0, mask.shape[1] - 1 - found, -1)


def cells(matrix: Array, columns: Counts) -> Array:
    """One number of each row; not-a-number where the column is not there [R]."""
    there = (columns >= 0) & (columns < matrix.shape[1])
    if not matrix.shape[1]:
        return np.full(len(matrix), np.nan)
    return np.where(there, matrix[np.arange(len(matrix)), np.where(there, columns, 0)], np.nan)
