"""The curves themselves: the loss of each replicate, a panel a config; with it one can doubt the detector."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.selection import placed, thinned
from analysis.study import Study

NAME, TITLE = "traces", "What do the runs look like?"
NOTHING = "No run has recorded a curve yet."
MOST_CONFIGS, MOST_RUNS = 24, 8


def table(study: Study) -> pl.DataFrame:
    """Medians of the bins of each curve: config, place, run_id, way, step [steps], value [metric].

    At most MOST_RUNS runs of each of at most MOST_CONFIGS configs. Also, the same on every row of a run: eureka_step
    [steps], and the task's plateau and floor [metric]. Bins are the digest that the detector read, so what is seen here
    is what it saw.
    """
    rows, _ = placed(study, most=MOST_CONFIGS)
    if rows.is_empty():
        return pl.DataFrame()
    levels = study.runs.select(
        "run_id", plateau=study.level_of(study.detector.plateau), floor=study.level_of(study.detector.floor)
    )
    chosen = thinned(rows, most=MOST_RUNS, over="place").join(levels, on="run_id", how="left", maintain_order="left")
    columns = ("place", "config", "run_id", "way", "step", "value", "eureka_step", "plateau", "floor")
    bins = study.digest.filter(pl.col("run_id").is_in(chosen["run_id"].implode()))
    found = bins.rename({"at_step": "step"}).join(chosen.drop("n_drops", strict=False), on="run_id")
    return found.select(columns).sort("place", "run_id", "step")


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Blue had a eureka (ticks below mark it), grey did not, orange was solved gradually, red diverged."""
    if table.is_empty():
        return style.sentence(NOTHING)
    places = table.partition_by("place", maintain_order=True)
    columns = _columns(study)
    is_one_row = len(places) <= columns
    figure, grid = style.panels(len(places), columns=columns, width=2.1, height=2.1 if is_one_row else 1.65)
    low, high = _limits(table)
    first = max(1.0, float(table["step"].quantile(0.05) or 1.0))
    for axes, rows in zip(grid, places, strict=True):
        for run in rows.partition_by("run_id", maintain_order=True):
            way = run["way"][0]
            axes.plot(
                run["step"],
                run["value"],
                color=style.OF_WAY[way],
                linewidth=0.6,
                alpha=0.8,
                zorder=3 if way == "eureka" else 2,
            )
            if run["eureka_step"][0] is not None:
                axes.plot(
                    [run["eureka_step"][0]] * 2,
                    [0, 0.07],
                    color=style.BLUE,
                    linewidth=1.3,
                    transform=axes.get_xaxis_transform(),
                    zorder=4,
                )
            if way == "diverged":
                last = run.filter(pl.col("value") <= high)
                axes.plot(
                    last["step"][-1:],
                    last["value"][-1:],
                    "x",
                    color=style.VERMILLION,
                    markersize=5,
                    markeredgewidth=1.5,
                    zorder=5,
                )
        if rows["plateau"][0] is not None:
            axes.axhline(rows["plateau"][0], color=style.INK, linewidth=0.8, linestyle="--", zorder=4)
        axes.set_ylim(low, high)
        axes.set_title(style.wrapped(rows["config"][0], width=2.1, lines=4), fontsize=8)
        style.log_step_axis(axes, low=first, high=study.horizon_steps * 1.05)
    figure.supxlabel("optimiser steps (log scale)", fontsize=9)
    label = "training loss" if study.detector.metric == "loss" else study.detector.metric
    if is_one_row:
        grid[0].set_ylabel(label)
    else:
        figure.supylabel(label, fontsize=9)
    words = {
        "eureka": "eureka (tick: its midpoint)",
        "censored": "none by the end",
        "gradual": "solved gradually",
        "diverged": "diverged",
    }
    handles = [
        Line2D([], [], color=style.OF_WAY[way], label=word, marker="x" if way == "diverged" else None)
        for way, word in words.items()
        if way in table["way"].unique()
    ]
    if table["plateau"].drop_nulls().len():
        handles.append(Line2D([], [], color=style.INK, linestyle="--", label="task's plateau"))
    figure.legend(handles=handles, loc="outside upper left", ncols=3 if figure.get_figwidth() < 8 else len(handles))
    return figure


def _columns(study: Study) -> int:
    """As many panels a row as the last axis has levels, where they fit, so that a grid of configs is drawn as one."""
    last = len(study.levels(study.axes[-1])) if study.axes else 1
    return last if 3 <= last <= 5 else 4


def _limits(table: pl.DataFrame) -> tuple[float, float]:
    """A y range that a diverging run cannot stretch [metric]."""
    calm = table.filter(pl.col("value").is_finite())
    held = calm.filter(pl.col("way") != "diverged")["value"].to_numpy()
    everything = calm["value"].to_numpy()
    if not everything.size:
        return 0.0, 1.0
    low = float(min(everything.min(), 0.0))
    high = float(np.quantile(held, 0.999) if held.size else np.quantile(everything, 0.98))
    return low, high * 1.1 if high > 0 else 1.0


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What is drawn, and what was left out."""
    drawn, of = (
        (table["run_id"].n_unique() if table.height else 0),
        study.events.filter(pl.col("status") != "failed").height,
    )
    part = (
        ""
        if drawn == of
        else f" {drawn:,} of {of:,} runs are drawn: at most {MOST_RUNS} of a config, {MOST_CONFIGS} configs, "
        "evenly over the ranking by share of eurekas."
    )
    return (
        "Training curves as the detector reads them: the median of each of about a hundred bins a run; the axis stops "
        "above the calm runs." + part
    )
