"""The multiverse: whether another reasonable definition of the event would have led to another conclusion.

Three choices in the definition are matters of taste: how much of the way must fall (theta), how fast (the largest rise
ratio), and of which metric (loss, or error, which is one minus accuracy). Here every combination of them is a
universe; each gives a probability and a typical step for each config, and a difference between any two configs. What
changes its sign from one universe to another is a conclusion about the definition, not about the runs.

Source: Steegen et al. 2016, Perspect. Psychol. Sci. 11:702; that metrics alone can make a leap, Schaeffer et al. 2023.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from analysis import frames, rules
from analysis.detect import as_events
from analysis.detectors import DETECTORS, Detector
from analysis.errors import AnalysisError, NoRuns, NoSuchColumn
from analysis.falls import falls, judged
from analysis.interval import median_interval
from analysis.levels import facts
from analysis.panel import OVER, panel
from analysis.store import Store
from analysis.survival import chance_by_step

SHARES = (0.3, 0.5, 0.7)
RISES = (1.5, 2.0, 3.0)
PRIMARY = {"loss": DETECTORS["contrast-1"], "error": DETECTORS["contrast-accuracy-1"]}
UNIVERSE = ("metric", "share", "most_rise")
ESTIMATES = {
    "n": pl.Int64(),  # runs that ended and did not fail [runs]
    "n_eureka": pl.Int64(),  # [runs]
    "chance": pl.Float64(),  # P(eureka by the step) [fraction]
    "chance_lo": pl.Float64(),
    "chance_hi": pl.Float64(),
    "median_t50": pl.Float64(),  # among those that had one [steps]
    "t50_lo": pl.Float64(),  # null: too few for an interval at this level
    "t50_hi": pl.Float64(),
}


def multiverse(
    digests: Mapping[str, pl.DataFrame],
    *,
    runs: pl.DataFrame,
    axes: Sequence[str],
    at_step: float,
    shares: Sequence[float] = SHARES,
    rises: Sequence[float] = RISES,
    level: float = 0.95,
) -> pl.DataFrame:
    """Probability and typical step of the event under every definition, per config and pooled.

    Args:
        digests: by universe metric, `loss` and `error`: the digest of loss, and that of accuracy.
        runs: RUNS rows with the axes as columns.
        axes: the columns that name a config.
        at_step: the step T that chances are read at [steps].
        shares: how much of the way to the floor must fall, and how deep it must lead [1].
        rises: the largest rise ratios [1].
        level: two-sided coverage [fraction].

    Returns:
        One row a (universe, config), and one a universe for all runs: metric, share, most_rise; is_primary, the
        default definition; is_pooled; the axes, null where pooled; the columns of ESTIMATES; `above`: chance less
        the pooled one [fraction]; `flips`: whether `above` has the other sign than in the primary universe.

    Raises:
        NoRuns: there is none that ended without failing.
        NoSuchColumn: an axis that RUNS has not, or a metric that is none of PRIMARY.

    Checked by: test_multiverse.py::test_each_universe_equals_its_detector_alone
    """
    _require(digests, runs=runs, axes=axes)
    parts = []
    for metric, digest in digests.items():
        for detector, events in _universes(digest, runs=runs, base=PRIMARY[metric], shares=shares, rises=rises):
            named = events.join(runs.select(OVER, *axes), on=OVER, how="left")
            universe = {"metric": metric, "share": detector.least_gap, "most_rise": detector.most_rise}
            is_primary = detector.least_gap == PRIMARY["loss"].least_gap and metric == "loss"
            is_primary &= detector.most_rise == PRIMARY["loss"].most_rise
            marks = {name: pl.lit(value) for name, value in (universe | {"is_primary": is_primary}).items()}
            for by in (list(axes), []) if axes else ([],):
                table = _estimates(named, by=by, at_step=at_step, level=level)
                absent = [pl.lit(None, dtype=runs.schema[axis]).alias(axis) for axis in axes if axis not in by]
                table = table.with_columns(*absent, is_pooled=pl.lit(not by), **marks)
                parts.append(table.select(*UNIVERSE, "is_primary", "is_pooled", *axes, *ESTIMATES))
    return _with_flips(pl.concat(parts), axes=axes)


def stored_multiverse(
    store: Store, *, run_ids: Sequence[str] | None = None, axes: Sequence[str] = (), at_step: float, level: float = 0.95
) -> pl.DataFrame:
    """`multiverse` of a store's runs, from the digests that it keeps.

    Raises:
        NoRuns, NoSuchColumn, StoreError: see `multiverse` and `frames.digest`.
    """
    runs = frames.runs(store, run_ids=run_ids)
    if runs.is_empty():
        raise NoRuns(f"{store.path}: no run has ended yet; a multiverse needs some")
    digests = {
        name: frames.digest(store, metric=detector.metric, run_ids=run_ids, bin_steps=detector.bin_steps)
        for name, detector in PRIMARY.items()
    }
    return multiverse(digests, runs=runs, axes=axes, at_step=at_step, level=level)


def conclusions(table: pl.DataFrame, *, axes: Sequence[str]) -> pl.DataFrame:
    """Every difference in chance between two configs, and what becomes of it in the other universes.

    Args:
        table: rows of `multiverse`, the primary universe among them.
        axes: the columns that name a config.

    Returns:
        One row a pair of configs: the axes of each, with suffixes _a and _b; difference, chance of a less that of b in
        the primary universe, and its interval difference_lo, difference_hi; lowest, highest over all universes
        [fraction]; n_a, n_b [runs]; agree: universes with the primary's sign, of universes [count];
        flips: one has the other sign; is_distinct: the primary interval excludes zero.

    Raises:
        AnalysisError: the primary universe is not in the table.

    Source: the interval is Newcombe's 1998, Stat. Med. 17:873, method 10, from the two chances' own intervals.
    Checked by: test_multiverse.py::test_a_difference_that_depends_on_the_metric_flips
    """
    if not table["is_primary"].any():
        raise AnalysisError(
            "multiverse: shares, rises: the default definition (0.5, 2, loss) is not among them; add it"
        )
    rows = table.filter(~pl.col("is_pooled")).with_columns(
        config=pl.concat_str([pl.col(axis).cast(pl.String).fill_null("\1") for axis in axes], separator="\0")
    )
    columns = ["config", *axes, *ESTIMATES]
    pairs = rows.join(rows.select(*UNIVERSE, *columns), on=list(UNIVERSE), suffix="_b").filter(
        pl.col("config") < pl.col("config_b")
    )
    pairs = pairs.rename({name: f"{name}_a" for name in columns})
    gap = pl.col("chance_a") - pl.col("chance_b")
    below = (
        (pl.col("chance_a") - pl.col("chance_lo_a")) ** 2 + (pl.col("chance_hi_b") - pl.col("chance_b")) ** 2
    ).sqrt()
    over = (
        (pl.col("chance_hi_a") - pl.col("chance_a")) ** 2 + (pl.col("chance_b") - pl.col("chance_lo_b")) ** 2
    ).sqrt()
    pairs = pairs.with_columns(gap=gap, below=gap - below, over=gap + over)
    first = pl.col("is_primary")
    sign, primary = pl.col("gap").sign(), pl.col("gap").filter(first).first().sign()
    ends = [f"{axis}_{side}" for side in "ab" for axis in axes]
    found = pairs.group_by("config_a", "config_b", maintain_order=True).agg(
        pl.col(ends).first(),
        pl.col("n_a", "n_b").filter(first).first(),
        difference=pl.col("gap").filter(first).first(),
        difference_lo=pl.col("below").filter(first).first(),
        difference_hi=pl.col("over").filter(first).first(),
        lowest=pl.col("gap").min(),
        highest=pl.col("gap").max(),
        agree=(sign == primary).sum().cast(pl.Int64),
        universes=pl.len().cast(pl.Int64),
        flips=(sign * primary < 0).any(),
    )
    distinct = (pl.col("difference_lo") > 0) | (pl.col("difference_hi") < 0)
    return found.drop("config_a", "config_b").with_columns(is_distinct=distinct)


def _require(digests: Mapping[str, pl.DataFrame], *, runs: pl.DataFrame, axes: Sequence[str]) -> None:
    for metric in digests:
        if metric not in PRIMARY:
            raise NoSuchColumn(f"multiverse: metric: got {metric!r}; expected one of {', '.join(PRIMARY)}")
    for axis in axes:
        if axis not in runs.columns:
            known = ", ".join(name for name in runs.columns if "." in name)
            raise NoSuchColumn(f"RUNS: axis: got {axis!r}; expected one of {known or 'none recorded'}")
    if runs.filter(pl.col("status") != "failed").is_empty():
        raise NoRuns("multiverse: no run ended without failing; there is nothing to estimate from")


def _universes(
    digest: pl.DataFrame, *, runs: pl.DataFrame, base: Detector, shares: Sequence[float], rises: Sequence[float]
) -> list[tuple[Detector, pl.DataFrame]]:
    """EVENTS under every threshold; the falls are searched for once."""
    falling = panel(digest if base.falls else digest.with_columns(value=-pl.col("value")))
    scores = rules.breakthroughness(falling)
    found = falls(falling, facts(falling, runs=runs, by=base), by=base).drop("solved_level")
    events = []
    for share in shares:
        by_share = replace(base, least_gap=share, solved_share=share)
        known = facts(falling, runs=runs, by=by_share)
        levelled = found.join(known.select(OVER, "solved_level"), on=OVER, how="left")
        for rise in rises:
            by = replace(by_share, most_rise=rise, name=f"{base.name}:{share:g}:{rise:g}")
            rows = judged(levelled, known, by=by).join(scores, on=OVER, how="left", maintain_order="left")
            events.append((by, as_events(rows, by=by)))
    return events


def _estimates(events: pl.DataFrame, *, by: list[str], at_step: float, level: float) -> pl.DataFrame:
    """Chance and median t50 with their intervals, one row a group."""
    chances = chance_by_step(events, at_steps=[at_step], by=by, level=level).drop("step")
    keys = by or ["_all"]
    steps = (
        events.filter(pl.col("status") == "eureka")
        .with_columns(pl.lit(0).alias("_all"))
        .group_by(keys)
        .agg(n_eureka=pl.len().cast(pl.Int64), steps=pl.col("eureka_step").sort())
    )
    rows = [median_interval(list(values), level=level) for values in steps["steps"].to_list()]
    steps = steps.drop("steps").hstack(
        pl.DataFrame(rows, schema={name: ESTIMATES[name] for name in ("median_t50", "t50_lo", "t50_hi")}, orient="row")
    )
    table = chances.with_columns(pl.lit(0).alias("_all")).join(steps, on=keys, how="left", nulls_equal=True)
    return table.with_columns(pl.col("n_eureka").fill_null(0)).select(
        *by, *(pl.col(name).cast(dtype) for name, dtype in ESTIMATES.items())
    )


def _with_flips(table: pl.DataFrame, *, axes: Sequence[str]) -> pl.DataFrame:
    """Adds `above`, each chance less the pooled one of its universe, and `flips`."""
    pooled = table.filter("is_pooled").select(*UNIVERSE, of_all="chance")
    table = table.join(pooled, on=list(UNIVERSE), maintain_order="left").with_columns(
        above=pl.col("chance") - pl.col("of_all")
    )
    keys = ["is_pooled", *axes]
    primary = table.filter("is_primary").select(*keys, expected=pl.col("above").sign())
    table = table.join(primary, on=keys, how="left", nulls_equal=True, maintain_order="left")
    flips = (pl.col("above").sign() * pl.col("expected") < 0).fill_null(False)
    return table.with_columns(flips=flips).drop("of_all", "expected")
