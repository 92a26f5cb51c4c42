"""What more steps buy: P(eureka) and the mean wait as functions of the steps given to a run."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.event_curves import facet_and_series
from analysis.figures.selection import evenly, watched
from analysis.labels import axis_label, value_text
from analysis.study import Study
from analysis.survival import chance_by_step, restricted_mean

NAME, TITLE = "compute", "What do more steps buy?"
NOTHING = "No run has ended yet that could be watched, so no budget can be judged."
POINTS = 12


def table(study: Study) -> pl.DataFrame:
    """One row a (series level, T): step T, chance [fraction], restricted_mean [steps], each with interval; n [runs]."""
    rows = watched(study)
    if rows.is_empty():
        return pl.DataFrame()
    _, series = facet_and_series(study)
    by = [series] if series else []
    level = pl.col(series) if series else pl.lit(None, dtype=pl.String)
    at = np.geomspace(study.horizon_steps / 32, study.horizon_steps, POINTS).tolist()
    chance = chance_by_step(rows, at_steps=at, by=by)
    means = [restricted_mean(rows, until_step=step, by=by).with_columns(step=pl.lit(step)) for step in at]
    found = chance.join(pl.concat(means).drop("n"), on=[*by, "step"], how="left", nulls_equal=True)
    columns = [f"{name}{end}" for name in ("chance", "restricted_mean") for end in ("", "_lo", "_hi")]
    return found.select(level.alias("series"), "step", *columns, "n").sort("series", "step", nulls_last=True)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Two panels over T, a line a level; of many levels some, evenly."""
    if table.is_empty():
        return style.sentence(NOTHING)
    _, series = facet_and_series(study)
    every = table["series"].unique().sort(nulls_last=True).to_list()
    levels = [every[i] for i in evenly(len(every), most=style.MOST_SERIES)]
    colours = style.ramp(levels)
    figure, (left, right) = style.separate(2, columns=2, width=3.5, height=2.7)
    for i, (level, colour) in enumerate(zip(levels, colours, strict=True)):
        rows = table.filter(pl.col("series").eq_missing(level))
        for axes, name in ((left, "chance"), (right, "restricted_mean")):
            axes.fill_between(
                rows["step"], rows[f"{name}_lo"], rows[f"{name}_hi"], color=colour, alpha=0.12, linewidth=0
            )
            axes.plot(rows["step"], rows[name], color=colour, marker=style.MARKERS[i], markersize=3.5, linewidth=1.4)
    ends = table["step"].to_numpy()
    right.plot([ends.min(), ends.max()], [ends.min(), ends.max()], color=style.QUIET, linestyle=":", linewidth=1)
    right.set_yscale("log")
    style.log_ticks(right.yaxis, low=ends.min(), high=ends.max())
    left.set_ylim(0, 1.02)
    left.set_ylabel("P(eureka by step T)")
    right.set_ylabel("mean wait up to T [steps]")
    for axes in (left, right):
        style.log_step_axis(axes, low=float(ends.min()) * 0.9, high=float(ends.max()) * 1.1)
        axes.set_xlabel("steps given to a run, T (log scale)")
    handles = [
        Line2D([], [], color=colour, marker=style.MARKERS[i], markersize=4, label=value_text(level))
        for i, (level, colour) in enumerate(zip(levels, colours, strict=True))
    ]
    if series:
        columns = style.legend_columns([value_text(level) for level in levels], width=figure.get_figwidth())
        figure.legend(
            handles=handles, title=axis_label(series), title_fontsize=8, loc="outside upper left", ncols=columns
        )
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What the lines are."""
    of = table["series"].n_unique() if table.height else 0
    some = f" {style.MOST_SERIES} of {of} levels are drawn, evenly." if of > style.MOST_SERIES else ""
    pooled = " Pooled over the other axes." if len(study.axes) > 1 else ""
    return (
        "Left: P(eureka by T). Right: restricted mean wait, each run counted at most to T; dotted: T itself, the "
        f"wait of runs that never succeed. Bands: 95% intervals.{pooled}{some}"
    )
