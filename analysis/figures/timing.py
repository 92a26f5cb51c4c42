"""When the eureka came, run by run: every run is one mark, those that never had it included."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.estimate import outcome
from analysis.figures import style
from analysis.labels import config_text
from analysis.study import Study
from analysis.survival import median_step

NAME, TITLE = "timing", "How long is the wait, run by run?"
NOTHING = "No run has ended yet, so there is nothing to time."
MOST_CONFIGS = 40
_MARK = {"eureka": "o", "censored": ">", "gradual": "D", "diverged": "x"}
_WORD = {
    "eureka": "eureka", "censored": "stopped without one", "gradual": "solved gradually", "diverged": "diverged",
}  # fmt: skip


def table(study: Study) -> pl.DataFrame:
    """One row a run that did not fail: config, place, way, step [steps], the config's median, interval [steps]."""
    rows = study.events.filter(pl.col("status") != "failed").with_columns(way=outcome())
    if rows.is_empty():
        return pl.DataFrame()
    by = list(study.axes)
    step = (
        pl.when(pl.col("way") == "eureka").then("eureka_step")
        .when(pl.col("way") == "gradual").then(pl.coalesce("solved_step", "end_step"))
        .otherwise("end_step")
    )  # fmt: skip
    medians = median_step(rows, by=by)
    rows = rows.join(medians, on=by, how="left", nulls_equal=True) if by else rows.join(medians, how="cross")
    rows = (
        rows.with_columns(step=step.cast(pl.Float64)).sort(*by, "step", nulls_last=True)
        if by
        else rows.with_columns(step=step.cast(pl.Float64)).sort("step")
    )
    names = (
        [config_text(row, axes=by) for row in rows.select(by).iter_rows(named=True)]
        if by
        else ["all runs"] * rows.height
    )
    place = pl.col("config").rle_id().cast(pl.Int64)
    columns = ("config", "place", "run_id", "way", "step", "median_step", "median_lo", "median_hi", "n")
    return rows.with_columns(config=pl.Series(names, dtype=pl.String)).with_columns(place=place).select(columns)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A row a config; runs are marks, spread by rank so that none hides another; the bar is the median."""
    if table.is_empty():
        return style.sentence(NOTHING)
    table = table.filter(pl.col("place") < MOST_CONFIGS)
    configs = table.group_by("place", maintain_order=True).first()
    figure = style.new_figure(7.4, 1.3 + 0.36 * configs.height)
    axes = figure.subplots()
    for rows in table.partition_by("place", maintain_order=True):
        place, n = rows["place"][0], rows.height
        heights = [place - 0.3 + 0.6 * (i + 0.5) / n for i in range(n)]
        for way, step, height in zip(rows["way"], rows["step"], heights, strict=True):
            open_face = "white" if way == "censored" else style.OF_WAY[way]
            axes.plot(step, height, _MARK[way], color=style.OF_WAY[way], markerfacecolor=open_face, markersize=4.5)
    for row in configs.iter_rows(named=True):
        if row["median_step"] is not None:
            end = row["median_hi"] if row["median_hi"] is not None else study.horizon_steps
            axes.plot([row["median_lo"], end], [row["place"]] * 2, color=style.QUIET, linewidth=0.8, zorder=1)
            axes.plot(
                [row["median_step"]] * 2,
                [row["place"] - 0.32, row["place"] + 0.32],
                color=style.INK,
                linewidth=2,
                zorder=1,
            )
        axes.axhline(row["place"] + 0.5, color=style.FAINT, linewidth=0.5)
    axes.set_ylim(configs.height - 0.5, -0.5)
    counts = table.group_by("place", maintain_order=True).agg(k=(pl.col("way") == "eureka").sum(), n=pl.len())
    axes.set_yticks(range(configs.height), configs["config"].to_list())
    for place, k, n in counts.iter_rows():
        axes.text(1.01, place, f"{k}/{n}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.text(1.01, -0.55, "k/n", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8, color=style.QUIET)
    style.step_axis(axes, horizon=study.horizon_steps)
    axes.set_xlabel("optimiser steps")
    handles = [
        Line2D([], [], color=style.OF_WAY[way], marker=_MARK[way], linestyle="none", markersize=5, label=_WORD[way],
               markerfacecolor="white" if way == "censored" else style.OF_WAY[way])
        for way in _MARK if way in table["way"].unique()
    ]  # fmt: skip
    if table["median_step"].drop_nulls().len():
        handles.append(Line2D([], [], color=style.INK, linewidth=2, label="median, with interval"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What a mark is, and what the median is of."""
    more = table["place"].n_unique() - MOST_CONFIGS if table.height else 0
    rest = f" The first {MOST_CONFIGS} configs are drawn; {more} more are in the table." if more > 0 else ""
    return (
        "One mark a run: its eureka step, or where it stopped, diverged or was solved without one. Bar: the step by "
        "which half of all runs of the config have had their eureka, with its 95% interval, drawn to the edge where it "
        f"has no upper end; no bar where half never did. k/n: runs with a eureka of runs watched.{rest}"
    )
