"""What a eureka costs when runs are given up at step T, and the T at which it costs least."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.selection import placed, thinned
from analysis.restart import cost_by_step, restart_step
from analysis.study import Study

NAME, TITLE = "cost", "When is a run best given up?"
NOTHING = "No run had a eureka-moment, so no number of steps buys one."
MOST_CONFIGS, MOST_RUNS, POINTS, RESAMPLES = 6, 2000, 24, 400


def table(study: Study) -> pl.DataFrame:
    """One row a (config, T): config, place, step, steps_per_eureka with its interval [steps], n [runs].

    Rows with `is_best` are at the restart step: step_lo, step_hi its interval; saved: share of the cost [fraction].
    """
    drawn, _ = placed(study, most=MOST_CONFIGS)
    had = drawn.filter(pl.col("way") == "eureka")
    if had.is_empty():
        return pl.DataFrame()
    drawn = thinned(drawn, most=MOST_RUNS, over="place")
    first, last = float(had["eureka_step"].min()), float(study.horizon_steps)  # type: ignore[arg-type]
    at = np.geomspace(min(first, last / 2), last, POINTS).tolist()
    by = ["place", "config"]
    curves = cost_by_step(drawn, at_steps=at, by=by, resamples=RESAMPLES).with_columns(is_best=pl.lit(False))
    best = restart_step(drawn, until_step=last, by=by, resamples=RESAMPLES).drop_nulls("restart_step")
    best = best.rename({"restart_step": "step", "restart_step_lo": "step_lo", "restart_step_hi": "step_hi"})
    rows = pl.concat([curves, best.with_columns(is_best=pl.lit(True))], how="diagonal_relaxed")
    costs = [f"steps_per_eureka{end}" for end in ("", "_lo", "_hi")]
    columns = ("config", "place", "is_best", "step", "step_lo", "step_hi", *costs, "saved", "n")
    return rows.select(columns).sort("place", "is_best", "step")


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A line a config on logarithmic axes, its band, and a mark at T*."""
    if table.is_empty():
        return style.sentence(NOTHING)
    parts = table.partition_by("place", maintain_order=True)
    figure, grid = style.panels(len(parts), width=2.5, height=2.2)
    known = table["steps_per_eureka"].drop_nulls().to_numpy()
    for axes, rows in zip(grid, parts, strict=True):
        line = rows.filter(~pl.col("is_best")).drop_nulls("steps_per_eureka")
        top = known.max() * 10
        axes.fill_between(
            line["step"], line["steps_per_eureka_lo"].fill_null(top), line["steps_per_eureka_hi"].fill_null(top),
            color=style.BLUE, alpha=0.2, linewidth=0,
        )  # fmt: skip
        axes.plot(line["step"], line["steps_per_eureka"], color=style.BLUE, linewidth=1.6)
        for row in rows.filter("is_best").iter_rows(named=True):
            low, high = row["step_lo"] or row["step"], row["step_hi"] or row["step"]
            axes.plot([max(low, 1.0), high], [row["steps_per_eureka"]] * 2, color=style.INK, linewidth=1)
            axes.plot(row["step"], row["steps_per_eureka"], "D", color=style.INK, markersize=4.5)
        if line.is_empty():
            axes.text(0.5, 0.5, "no eureka", transform=axes.transAxes, ha="center", color=style.QUIET)
        axes.set_yscale("log")
        axes.set_ylim(known.min() / 1.6, known.max() * 1.6)
        style.log_ticks(axes.yaxis, low=known.min() / 1.6, high=known.max() * 1.6)
        steps = table["step"].to_numpy()
        style.log_step_axis(axes, low=float(steps.min()) * 0.9, high=float(steps.max()) * 1.1)
        few = ", few" if rows["n"][0] < 5 else ""
        axes.set_title(f"{style.wrapped(rows['config'][0], width=2.5, lines=2)}\nn = {rows['n'][0]:,}{few}", fontsize=8)
    figure.supxlabel("step T at which a run is given up (log scale) [optimiser steps]", fontsize=9)
    figure.supylabel("steps per eureka, ERT(T) (log scale)", fontsize=9)
    handles = [Line2D([], [], color=style.BLUE, label="ERT(T), 95% band"),
               Line2D([], [], color=style.INK, marker="D", markersize=4, label="T*, with interval")]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What it costs, and what may be saved."""
    best = table.filter("is_best") if table.height else table
    saved = ""
    if best.height:
        most = best.sort("saved", descending=True, nulls_last=True).row(0, named=True)
        share = f"{100 * (most['saved'] or 0):.0f}% of the cost"
        saved = f" Most is saved at {most['config']}: T* = {most['step']:,.0f}, {share}."
    return (
        "Expected steps until the first eureka when each run is given up at step T and begun again with new seeds: "
        f"steps spent by T over P(eureka by T). Bands and T*: bootstrap of {RESAMPLES} resamples of runs. At most "
        f"{MOST_CONFIGS} configs, evenly over the ranking by share, and {MOST_RUNS:,} runs of each.{saved}"
    )
