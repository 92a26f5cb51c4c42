"""Stage two of detection: find the falls in a digest, and measure each.

A fall is a peak of the contrast g, the median of the bins before a point less that of the bins after it, where it rises
above the noise. Peaks are taken largest first; the extent of each is masked before the next is looked for. Each
round works on the matrices of all runs at once.

All of it is unchanged when the metric is scaled or shifted; times enter as ratios only.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.panel import (
    OVER,
    Array,
    Counts,
    Mask,
    Panel,
    cells,
    first_true,
    last_true,
    medians_where,
    trailing_medians,
)

DROP_SCHEMA = {
    "run_id": pl.String,
    "plateau_level": pl.Float64,  # median just before the fall [metric]
    "after_level": pl.Float64,  # median just after it [metric]
    "gap": pl.Float64,  # plateau_level - after_level [metric]
    "contrast": pl.Float64,  # at its peak [metric]
    "onset_step": pl.Float64,  # a tenth of the gap has fallen [steps]
    "eureka_step": pl.Float64,  # half [steps]
    "completion_step": pl.Float64,  # nine tenths; null: the run ended first [steps]
    "after_step": pl.Int64,  # middle of the last bin above the midpoint [steps]
    "by_step": pl.Int64,  # middle of the first bin below it [steps]
    "onset_bin": pl.Int64,
    "completion_bin": pl.Int64,
    "bins_after": pl.Int64,  # bins from completion to the run's end
    "median_after": pl.Float64,  # median from completion to the end [metric]
    "hits_end": pl.Boolean,  # the contrast never went down again: it may still be falling
}


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """How falls are found; every length is in bins, so it adapts to the run.

    Attributes:
        window_bins: bins on each side of a point (5 growing bins are 0.31 octave).
        fewest_bins: at the curve's ends a side may be this short.
        snr: the contrast must rise this far above its own noise [1].
        noise_bins: how many bins before a point its noise is measured on.
        most_drops: how many falls are looked for in a run.
    """

    window_bins: int = 5
    fewest_bins: int = 2
    snr: float = 4.0
    noise_bins: int = 16
    most_drops: int = 4


@dataclass(frozen=True)
class _Peaks:
    """The highest contrast of each run that is left, and how far its fall extends."""

    rows: Counts  # of the panel
    height: Array  # [metric]
    left: Counts  # bins
    right: Counts
    hits_end: Mask


def contrast(bins: Panel, *, by: Contrast) -> tuple[Array, Array]:
    """The contrast, and `noise`, the standard deviation it would have on a plateau [R, B; metric].

    Source: statistics.md section 1.2. Bins hold unequal counts towards a run's end, so the noise is carried per step.
    Checked by: test_drops.py::test_noise_of_the_contrast_is_what_white_noise_gives
    """
    side = {"width": by.window_bins, "least": by.fewest_bins}
    before = trailing_medians(bins.level, **side)
    after = trailing_medians(bins.level[:, ::-1], **side)[:, ::-1]
    per_step = np.full_like(bins.value, np.nan)
    each = 1 / bins.n_steps
    per_step[:, 1:] = np.abs(np.diff(bins.value, axis=1)) / np.sqrt(each[:, 1:] + each[:, :-1])
    spread = _filled_backward(
        1.4826 * trailing_medians(per_step, width=by.noise_bins, least=by.fewest_bins), n_bins=bins.n_bins
    )
    # a difference of two medians, each of window_bins values or of what the curve's end leaves
    bins_before = np.clip(bins.bins, 1, by.window_bins)
    bins_after = np.clip(bins.n_bins[:, None] - 1 - bins.bins, 1, by.window_bins)
    of_windows = 1.25 * np.sqrt(1 / bins_before + 1 / bins_after)
    there = bins.is_bin
    return np.where(there, before - after, np.nan), np.where(there, spread / np.sqrt(bins.n_steps) * of_windows, np.nan)


def _filled_backward(matrix: Array, *, n_bins: Counts) -> Array:
    """The first bins of a run, which have too few before them, take the first number that there is."""
    first = first_true(np.isfinite(matrix))
    early = np.arange(matrix.shape[1]) < np.minimum(first, n_bins)[:, None]
    return np.where(early, cells(matrix, first)[:, None], matrix)


def find_drops(bins: Panel, *, by: Contrast) -> pl.DataFrame:
    """Every fall of every run, largest contrast first.

    Args:
        bins: of a metric that falls.
        by: the windows and thresholds.

    Returns:
        One row a (run, fall) with the columns of DROP_SCHEMA; a run without a fall has no row.

    Checked by: test_drops.py::test_a_logistic_fall_is_measured_where_it_was_drawn
    """
    height, noise = contrast(bins, by=by)
    masked = np.zeros_like(height, dtype=bool)  # may hold no further peak
    inside = np.zeros_like(masked)  # is no other fall's plateau
    found: list[pl.DataFrame] = []
    for _ in range(by.most_drops):
        peaks = _peaks(height, noise, masked, n_bins=bins.n_bins, by=by)
        if not len(peaks.rows):
            break
        found.append(_measured(bins, peaks, outside=~inside[peaks.rows], by=by))
        left, right = peaks.left[:, None], peaks.right[:, None]
        masked[peaks.rows] |= (bins.bins >= left) & (bins.bins <= right)
        inside[peaks.rows] |= (bins.bins > left) & (bins.bins < right)
    return pl.concat(found) if found else pl.DataFrame(schema=DROP_SCHEMA)


def _peaks(height: Array, noise: Array, masked: Mask, *, n_bins: Counts, by: Contrast) -> _Peaks:
    """Extents run to the nearest bins where the contrast is below a cut or another fall is, or to the curve's ends."""
    with np.errstate(invalid="ignore"):
        standing = ~masked & (height > by.snr * noise) & (height > 0)
    rows = np.flatnonzero(standing.any(axis=1))
    height, noise, masked, standing = height[rows], noise[rows], masked[rows], standing[rows]
    peak = np.where(standing, height, -np.inf).argmax(axis=1) if len(rows) else rows
    top, floor = cells(height, peak), 1.5 * cells(noise, peak)
    k = np.arange(height.shape[1])
    with np.errstate(invalid="ignore"):
        low_left = (height < np.maximum(0.25 * top, floor)[:, None]) | masked
        low_right = (height < np.maximum(0.1 * top, floor)[:, None]) | masked
    left, right = last_true(low_left & (k < peak[:, None])), first_true(low_right & (k > peak[:, None]))
    end = n_bins[rows] - 1
    return _Peaks(rows, top, np.maximum(left, 0), np.where(right < 0, end, right), (right < 0) | (right >= end))


def _measured(bins: Panel, peaks: _Peaks, *, outside: Mask, by: Contrast) -> pl.DataFrame:
    """Levels, crossings and what follows, for one fall a run; `outside` are the bins of no other fall."""
    k, n_bins, left = bins.bins, bins.n_bins[peaks.rows], peaks.left
    at_step, value, level = bins.at_step[peaks.rows], bins.value[peaks.rows], bins.level[peaks.rows]
    right = np.minimum(peaks.right, n_bins - 3)

    def level_from(first: Counts) -> Array:
        near = (k >= first[:, None]) & (k < first[:, None] + by.window_bins)
        return medians_where(value, near & outside)

    plateau, after = level_from(left - by.window_bins + 1), level_from(right)
    gap = plateau - after
    heights = {share: (plateau - share * gap)[:, None] for share in (0.1, 0.5, 0.9)}
    following = np.full_like(level, np.nan)
    following[:, :-1] = level[:, 1:]
    extent = (k >= left[:, None]) & (k <= peaks.right[:, None])
    with np.errstate(invalid="ignore"):
        middle = last_true(extent & (level > heights[0.5]) & (following <= heights[0.5]))
        onset = last_true((k <= middle[:, None]) & (level >= heights[0.1]))
        completion = first_true((k > middle[:, None]) & (level <= heights[0.9]))
        is_fall = (gap > 0) & (middle >= 0)
    onset = np.where(onset < 0, left, onset)

    def crossing(bin_: Counts, share: float) -> Array:
        """Where the line from a bin to the next crosses a height: linear in the metric, logarithmic in the step."""
        here, there = cells(level, bin_), cells(level, bin_ + 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            way = (here - heights[share][:, 0]) / (here - there)
        way = np.clip(np.where((here == there) & np.isnan(way), 0.0, way), 0.0, 1.0)
        start, end = np.log(cells(at_step, bin_)), np.log(cells(at_step, bin_ + 1))
        return np.asarray(np.exp(start + way * (end - start)))

    completed = completion >= 0
    tail = completed[:, None] & (k >= completion[:, None])
    columns = {
        OVER: bins.run_ids.gather(peaks.rows),
        "plateau_level": plateau,
        "after_level": after,
        "gap": gap,
        "contrast": peaks.height,
        "onset_step": crossing(onset, 0.1),
        "eureka_step": crossing(middle, 0.5),
        "completion_step": np.where(completed, crossing(completion - 1, 0.9), np.nan),
        "after_step": np.floor(cells(at_step, middle)),
        "by_step": np.ceil(cells(at_step, middle + 1)),
        "onset_bin": onset,
        "completion_bin": np.where(completed, completion, np.nan),
        "bins_after": np.where(completed, n_bins - completion, 0),
        "median_after": medians_where(value, tail),
        "hits_end": peaks.hits_end,
    }
    drops = pl.DataFrame(columns, nan_to_null=True).filter(pl.Series(is_fall))
    return drops.select(pl.col(name).cast(dtype) for name, dtype in DROP_SCHEMA.items())
