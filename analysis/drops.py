"""Stage two of detection: find the falls in a digest, and measure each.

A fall is a peak of the contrast g, the median of the bins before a point less that of the bins after it, where it rises
above the noise. Peaks are taken largest first; the extent of each is masked before the next is looked for. Each
round is a few group-bys over all runs at once, so ten thousand runs cost seconds, and no run is ever looped over.

All of it is unchanged when the metric is scaled or shifted; times enter as ratios only.
"""

from dataclasses import dataclass
from typing import Literal

import polars as pl

OVER = "run_id"

DROP_SCHEMA = {
    "run_id": pl.String,
    "plateau_level": pl.Float64,  # median just before the fall [metric]
    "after_level": pl.Float64,  # median just after it [metric]
    "gap": pl.Float64,  # plateau_level - after_level [metric]
    "onset_step": pl.Float64,  # a tenth of the gap has fallen [steps]
    "eureka_step": pl.Float64,  # half [steps]
    "completion_step": pl.Float64,  # nine tenths; null: the run ended first [steps]
    "after_step": pl.Int64,  # middle of the last bin above the midpoint [steps]
    "by_step": pl.Int64,  # middle of the first bin below it [steps]
    "onset_bin": pl.Int64,
    "completion_bin": pl.Int64,
    "bins_after": pl.Int64,  # bins from completion to the run's end
    "median_after": pl.Float64,  # median from completion to the end [metric]
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


def smoothed(digest: pl.DataFrame) -> pl.DataFrame:
    """The digest with `level`, the median of each bin and its two neighbours [metric]; `n_bins` [bins]."""
    level = pl.col("value").rolling_median(3, center=True).over(OVER).fill_null(pl.col("value"))
    return digest.with_columns(pl.col("bin").cast(pl.Int64), level=level, n_bins=pl.len().cast(pl.Int64).over(OVER))


def contrast(bins: pl.DataFrame, *, by: Contrast) -> pl.DataFrame:
    """Adds `contrast`, and `noise`, the standard deviation it would have on a plateau [metric].

    Source: statistics.md section 1.2. Bins hold unequal counts towards a run's end, so the noise is carried per step.
    Checked by: test_drops.py::test_noise_of_the_contrast_is_what_white_noise_gives
    """
    before = pl.col("level").rolling_median(by.window_bins, min_samples=by.fewest_bins).shift(1)
    after = pl.col("level").reverse().rolling_median(by.window_bins, min_samples=by.fewest_bins).shift(1).reverse()
    per_step = pl.col("value").diff().abs() / (1 / pl.col("n_steps") + 1 / pl.col("n_steps").shift(1)).sqrt()
    spread = 1.4826 * per_step.rolling_median(by.noise_bins, min_samples=by.fewest_bins).shift(1)
    # a difference of two medians, each of window_bins values or of what the curve's end leaves
    bins_before = pl.col("bin").clip(1, by.window_bins)
    bins_after = (pl.col("n_bins") - 1 - pl.col("bin")).clip(1, by.window_bins)
    of_windows = 1.25 * (1 / bins_before + 1 / bins_after).sqrt()
    return bins.with_columns(
        contrast=(before - after).over(OVER),
        noise=(spread.backward_fill().over(OVER) / pl.col("n_steps").sqrt() * of_windows),
    )


def find_drops(digest: pl.DataFrame, *, by: Contrast) -> pl.DataFrame:
    """Every fall of every run, largest contrast first.

    Args:
        digest: rows of `digest.digest`, of a metric that falls (negate one that rises).
        by: the windows and thresholds.

    Returns:
        One row a (run, fall) with the columns of DROP_SCHEMA; a run without a fall has no row.

    Checked by: test_drops.py::test_a_logistic_fall_is_measured_where_it_was_drawn
    """
    bins = contrast(smoothed(digest), by=by).with_columns(masked=False, inside=False)
    found: list[pl.DataFrame] = []
    for _ in range(by.most_drops):
        peaks = _with_extents(bins, _peaks(bins, by=by))
        if peaks.is_empty():
            break
        found.append(_measured(bins, peaks, by=by))
        bins = _without(bins, peaks)
    return pl.concat(found) if found else pl.DataFrame(schema=DROP_SCHEMA)


def _without(bins: pl.DataFrame, peaks: pl.DataFrame) -> pl.DataFrame:
    """Takes the extents out of the search: `masked` may hold no further peak, `inside` is no other fall's plateau."""

    def within(closed: Literal["both", "none"]) -> pl.Expr:
        return pl.col("bin").is_between(pl.col("left"), pl.col("right"), closed=closed).fill_null(False)

    marked = bins.join(peaks, on=OVER, how="left", maintain_order="left").with_columns(
        masked=pl.col("masked") | within("both"), inside=pl.col("inside") | within("none")
    )
    return marked.select(bins.columns)


def _peaks(bins: pl.DataFrame, *, by: Contrast) -> pl.DataFrame:
    """The highest unmasked contrast of each run: its `peak` bin, and the `left_cut` and `right_cut` [metric]."""
    standing = bins.filter(
        ~pl.col("masked") & (pl.col("contrast") > by.snr * pl.col("noise")) & (pl.col("contrast") > 0)
    )
    top = standing.sort("contrast", "bin", descending=[True, False]).group_by(OVER, maintain_order=True).first()
    return top.select(
        OVER,
        peak=pl.col("bin"),
        left_cut=pl.max_horizontal(0.25 * pl.col("contrast"), 1.5 * pl.col("noise")),
        right_cut=pl.max_horizontal(0.1 * pl.col("contrast"), 1.5 * pl.col("noise")),
    )


def _with_extents(bins: pl.DataFrame, peaks: pl.DataFrame) -> pl.DataFrame:
    """Adds `left` and `right`: the nearest bins where the contrast is below its cut or another fall is, or the ends."""
    low_left = (pl.col("contrast") < pl.col("left_cut")) | pl.col("masked")
    low_right = (pl.col("contrast") < pl.col("right_cut")) | pl.col("masked")
    k, peak = pl.col("bin"), pl.col("peak")
    extents = (
        bins.join(peaks, on=OVER)
        .group_by(OVER)
        .agg(
            left=k.filter(low_left & (k < peak)).max().fill_null(0),
            right=k.filter(low_right & (k > peak)).min().fill_null(k.max()),
        )
    )
    return peaks.join(extents, on=OVER, maintain_order="left")


def _measured(bins: pl.DataFrame, peaks: pl.DataFrame, *, by: Contrast) -> pl.DataFrame:
    """Levels, crossings and what follows, for one fall a run."""
    k, level, value = pl.col("bin"), pl.col("level"), pl.col("value")
    left, right = pl.col("left"), pl.min_horizontal(pl.col("right"), pl.col("n_bins") - 3)
    outside = ~pl.col("inside")  # of every other fall
    rows = bins.join(peaks, on=OVER).sort(OVER, "bin")
    rows = rows.with_columns(
        next_level=level.shift(-1).over(OVER),
        next_at=pl.col("at_step").shift(-1).over(OVER),
        plateau_level=value.filter(outside & k.is_between(left - by.window_bins + 1, left)).median().over(OVER),
        after_level=value.filter(outside & k.is_between(right, right + by.window_bins - 1)).median().over(OVER),
    ).with_columns(gap=pl.col("plateau_level") - pl.col("after_level"))

    def at_share(share: float) -> pl.Expr:
        return pl.col("plateau_level") - share * pl.col("gap")

    inside = k.is_between(left, pl.col("right"))
    rows = rows.filter(pl.col("gap") > 0).with_columns(
        mid_bin=k.filter(inside & (level > at_share(0.5)) & (pl.col("next_level") <= at_share(0.5))).max().over(OVER)
    )
    rows = rows.filter(pl.col("mid_bin").is_not_null()).with_columns(
        onset_bin=k.filter((k <= pl.col("mid_bin")) & (level >= at_share(0.1))).max().over(OVER).fill_null(left),
        completion_bin=k.filter((k > pl.col("mid_bin")) & (level <= at_share(0.9))).min().over(OVER),
    )
    rows = rows.with_columns(
        onset_step=_crossing(pl.col("onset_bin"), at_share(0.1)),
        eureka_step=_crossing(pl.col("mid_bin"), at_share(0.5)),
        completion_step=_crossing(pl.col("completion_bin") - 1, at_share(0.9)),
    )
    tail = value.filter(k >= pl.col("completion_bin"))
    once = [
        "plateau_level",
        "after_level",
        "gap",
        "onset_step",
        "eureka_step",
        "completion_step",
        "onset_bin",
        "completion_bin",
    ]
    drops = rows.group_by(OVER).agg(
        pl.col(once).first(),
        after_step=pl.col("at_step").filter(k == pl.col("mid_bin")).first().floor(),
        by_step=pl.col("next_at").filter(k == pl.col("mid_bin")).first().ceil(),
        bins_after=(pl.col("n_bins") - pl.col("completion_bin")).first().fill_null(0),
        median_after=tail.median(),
    )
    return drops.select(pl.col(name).cast(dtype) for name, dtype in DROP_SCHEMA.items())


def _crossing(at_bin: pl.Expr, height: pl.Expr) -> pl.Expr:
    """Where the line from a bin to the next crosses a height: linear in the metric, logarithmic in the step."""
    share = ((pl.col("level") - height) / (pl.col("level") - pl.col("next_level"))).fill_nan(0.0).clip(0.0, 1.0)
    step = (pl.col("at_step").log() + share * (pl.col("next_at").log() - pl.col("at_step").log())).exp()
    return step.filter(pl.col("bin") == at_bin).first().over(OVER)
