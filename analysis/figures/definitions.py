"""The multiverse of detectors: P under every reasonable definition of the event, and what changes its sign."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.selection import thinned, watched
from analysis.figures.stored import metric_names, other_digest
from analysis.multiverse import PRIMARY, multiverse
from analysis.study import Study

NAME, TITLE = "definitions", "Would another definition have said something else?"
NOTHING = "No run was watched whose loss is at hand, so other definitions cannot be asked."
MOST_RUNS = 2000  # so many stand for all: eighteen definitions of each
MOST_CONFIGS = 60  # beyond, only the pooled estimate is compared


def table(study: Study) -> pl.DataFrame:
    """One row a universe: metric, share, most_rise, is_primary, chance with interval [fraction], median_t50 [steps].

    flips, of: configs that lie on the other side of the pooled chance than in the primary universe, of configs; n:
    runs, n_of: runs that were watched [runs].
    """
    rows = watched(study).sort("config_id", "run_id")
    there = set(metric_names(study))
    metrics = {name: detector.metric for name, detector in PRIMARY.items() if detector.metric in there}
    if rows.is_empty() or "loss" not in metrics:
        return pl.DataFrame()
    chosen = thinned(rows.with_columns(all=pl.lit(0)), most=MOST_RUNS, over="all")["run_id"]
    runs = study.runs.filter(pl.col("run_id").is_in(chosen.implode()))
    digests = {
        name: other_digest(study, metric).filter(pl.col("run_id").is_in(chosen.implode()))
        for name, metric in metrics.items()
    }
    digests = {name: bins for name, bins in digests.items() if bins.height}
    axes = list(study.axes) if runs.select(study.axes).n_unique() <= MOST_CONFIGS else []
    try:
        found = multiverse(digests, runs=runs, axes=axes, at_step=study.horizon_steps)
    except AnalysisError:
        return pl.DataFrame()
    keys = ["metric", "share", "most_rise"]
    by_config = found.filter(~pl.col("is_pooled")).group_by(keys).agg(
        flips=pl.col("flips").sum().cast(pl.Int64), of=pl.len().cast(pl.Int64)
    )  # fmt: skip
    pooled = found.filter("is_pooled").join(by_config, on=keys, how="left")
    estimates = ("chance", "chance_lo", "chance_hi", "median_t50", "t50_lo", "t50_hi")
    return pooled.select(
        *keys, "is_primary", *estimates, pl.col("flips", "of").fill_null(0), "n", n_of=pl.lit(rows.height)
    ).sort("metric", "share", "most_rise", descending=[True, False, False])


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A row a definition: P and the typical step, the primary definition in its own mark."""
    if table.is_empty():
        return style.sentence(NOTHING)
    figure = style.new_figure(7.4, 1.0 + 0.2 * table.height)
    left, right = figure.subplots(1, 2, sharey=True)
    first = table.filter("is_primary")
    if first.height and first["chance_lo"][0] is not None:
        left.axvspan(first["chance_lo"][0], first["chance_hi"][0], color=style.FAINT, alpha=0.5, linewidth=0)
    for place, row in enumerate(table.iter_rows(named=True)):
        colour = style.BLUE if row["metric"] == "loss" else style.GREEN
        marker, size = ("D", 6) if row["is_primary"] else ("o" if row["metric"] == "loss" else "s", 4)
        for axes, name, low, high in (
            (left, "chance", "chance_lo", "chance_hi"), (right, "median_t50", "t50_lo", "t50_hi"),
        ):  # fmt: skip
            if row[name] is None:
                continue
            if row[low] is not None and row[high] is not None:
                axes.plot([row[low], row[high]], [place] * 2, color=colour, linewidth=1)
            axes.plot(row[name], place, marker, color=colour, markersize=size)
        if row["of"]:
            words = f"{row['flips']}/{row['of']}"
            right.text(1.02, place, words, transform=right.get_yaxis_transform(), fontsize=7, va="center")
    if table["of"].max():
        right.text(1.02, -1.0, "flips", transform=right.get_yaxis_transform(), fontsize=7, color=style.QUIET)
    labels = [
        f"{m}, fall ≥ {s:g}, rise ≤ {r:g}" for m, s, r in table.select("metric", "share", "most_rise").iter_rows()
    ]
    left.set_yticks(range(table.height), labels, fontsize=7)
    left.set_ylim(table.height - 0.5, -0.7)
    left.set_xlim(-0.03, 1.03)
    if table["median_t50"].drop_nulls().is_empty():
        right.set_xticks([])
        right.text(0.5, 0.5, "no eureka", transform=right.transAxes, ha="center", color=style.QUIET)
    left.set_xlabel("P(eureka), pooled")
    right.set_xlabel("median eureka step, given one")
    handles = [
               Line2D([], [], color=style.BLUE, marker="D", linestyle="none", label="the primary definition"),
               Line2D([], [], color=style.BLUE, marker="o", markersize=4, linestyle="none", label="of loss"),
               Line2D([], [], color=style.GREEN, marker="s", markersize=4, linestyle="none", label="of error"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """Which definitions, and how to read the flips."""
    n, of = (int(table["n"][0]), int(table["n_of"][0])) if table.height else (0, 0)
    some = f" On {n:,} of {of:,} runs, evenly over configs." if n < of else ""
    return (
        "P(eureka) and the median step under every combination of how much must fall, how fast (rise ratio), "
        "and which metric; contrast detectors throughout. Bars: 95% intervals; grey: that of the primary definition. "
        "Flips: configs on the other side of the pooled P than under the primary definition, of configs; where that "
        f"changes, the conclusion is about the definition.{some}"
    )
