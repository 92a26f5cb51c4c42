"""How attention to the most telling word grew, beside what theory allows: `scan_snap` alone."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.labels import value_text
from analysis.scan_snap import PROBLEM, RATES, growth, snap_step
from analysis.study import Study

NAME, TITLE = "growth", "How far does attention grow, and when does it snap?"
NOTHING = "No run of the task scan_snap has measured its scores, so there is no growth to show."
MOST_STEPS = 200  # a panel shows no more points than these


def table(study: Study) -> pl.DataFrame:
    """One row a (panel, step): settings, growth with its extremes over runs, theory's bounds [1], snap_theory."""
    try:
        rows = growth(study)
    except AnalysisError:
        return pl.DataFrame()
    keys = [*PROBLEM, *RATES, "classes", "m"]
    thin = []
    for panel, part in enumerate(rows.partition_by(keys, maintain_order=True)):
        every = -(-part.height // MOST_STEPS)
        first = part.row(0, named=True)
        t0 = snap_step(classes=first["classes"], words=first["m"], lr_y=first["optim.lr_y"])
        thin.append(part.gather_every(every).with_columns(panel=pl.lit(panel), snap_theory=pl.lit(t0)))
    return pl.concat(thin) if thin else pl.DataFrame()


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel a problem and pair of rates; each has its own steps, since snaps lie far apart."""
    if table.is_empty():
        return style.sentence(NOTHING)
    parts = table.partition_by("panel", maintain_order=True)[: style.MOST_PANELS]
    columns = min(4, len(parts))
    rows = -(-len(parts) // columns)
    figure = style.new_figure(2.5 * columns + 0.6, 2.5 * rows + 0.5)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for spare in grid[len(parts) :]:
        spare.set_axis_off()
    for axes, part in zip(grid, parts, strict=False):
        _panel(axes, part)
    for axes in grid[::columns]:
        axes.set_ylabel("growth factor")
    handles = [
        Line2D([], [], color=style.BLUE, linewidth=1.5, label="runs"),
        Line2D([], [], color=style.QUIET, linestyle="--", linewidth=1, label="theory: bounds"),
        Line2D([], [], color=style.VERMILLION, linestyle=":", linewidth=1, label="theory: snap"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def _panel(axes, part) -> None:  # type: ignore[no-untyped-def]
    first = part.row(0, named=True)
    axes.fill_between(part["step"], part["growth_lo"], part["growth_hi"], color=style.BLUE, alpha=0.2, linewidth=0)
    axes.plot(part["step"], part["growth"], color=style.BLUE, linewidth=1.5)
    for bound in ("theory_lo", "theory_hi"):
        axes.plot(part["step"], part[bound], color=style.QUIET, linestyle="--", linewidth=1)
    axes.axvline(first["snap_theory"], color=style.VERMILLION, linestyle=":", linewidth=1)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    style.log_ticks(axes.yaxis, low=low, high=high)
    axes.set_xlabel("optimiser steps")
    rates = f"lr_z {value_text(first['optim.lr_z'])}, lr_y {value_text(first['optim.lr_y'])}"
    axes.set_title(f"{rates}\nK {first['classes']}, M {value_text(first['m'])}")


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What grows, and what the lines are."""
    if table.is_empty():
        return NOTHING
    most = table.select(pl.col("n").max()).item()
    return (
        "Growth factor exp(2(z(t) - z(0))) of the most frequent distinct word's score z: geometric mean over runs, "
        f"band from least to most of {most} runs. Dashed: the bounds of Tian et al. 2023, with growth 1 at "
        "step 0; dotted: their snap step, 2 K ln M / lr_y."
    )
