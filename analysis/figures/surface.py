"""The fitted surface of P over two continuous axes, with the line on which a eureka is as likely as not.

Needs scikit-learn (extra `surface`); without it, or with too few points to fit, the figure is left out and says why.
"""

import polars as pl
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.fitted import MOST_POINTS, fitted
from analysis.labels import axis_label, value_text
from analysis.study import Study

NAME, TITLE = "surface", "Where is a eureka as likely as not?"
NOTHING = "No surface is fitted: it takes two axes of numbers, eight points, a P that varies, and the extra [surface]."


def table(study: Study) -> pl.DataFrame:
    """Rows of three kinds: `grid` (x, y, chance, chance_lo, chance_hi), `line` (name, piece, x, y), `point`
    (x, y, chance, n: runs that it rests on).
    """
    surface = fitted(study, axes=2)
    if surface is None:
        return pl.DataFrame()
    try:
        lines = surface.contour()
    except AnalysisError:
        lines = pl.DataFrame()
    x, y = (scale.name for scale in surface.axes[:2])
    names = {x: "x", y: "y"}
    parts = [surface.grid(points=31).rename(names).with_columns(kind=pl.lit("grid"))]
    if lines.height:
        parts.append(lines.rename(names).rename({"line": "name"}).with_columns(kind=pl.lit("line")))
    points = surface.points.rename(names | {"n_effective": "n"}).with_columns(kind=pl.lit("point"))
    parts.append(points.with_columns(pl.col("x", "y").cast(pl.Float64)))
    columns = ("kind", "name", "piece", "x", "y", "chance", "chance_lo", "chance_hi", "n")
    rows = pl.concat([part.with_columns(pl.col("x", "y").cast(pl.Float64)) for part in parts], how="diagonal_relaxed")
    absent = [pl.lit(None, dtype=pl.String).alias(name) for name in ("name", "piece") if name not in rows.columns]
    return rows.with_columns(absent).select(columns)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Colour is the fitted P, circles are the runs, lines are where P and its band cross one half."""
    if table.is_empty():
        return style.sentence(NOTHING)
    x, y = study.axes[:2]
    figure, (axes,) = style.separate(1, width=6.4, height=4.0)
    grid = table.filter(pl.col("kind") == "grid").sort("x", "y")
    side = grid["x"].n_unique()
    across, up = (grid[name].unique().sort().to_numpy() for name in "xy")
    height = grid["chance"].to_numpy().reshape(side, -1).T
    shades = colormaps["cividis"]
    picture = axes.pcolormesh(across, up, height, cmap=shades, vmin=0, vmax=1, shading="gouraud", rasterized=True)
    for name, colour, dashes in (("lo", "white", ":"), ("hi", "white", ":"), ("estimate", "white", "-")):
        rows = table.filter((pl.col("kind") == "line") & (pl.col("name") == name))
        for piece in rows.partition_by("piece", maintain_order=True) if rows.height else []:
            axes.plot(piece["x"], piece["y"], color=colour, linestyle=dashes, linewidth=2.2 if dashes == "-" else 1.3)
    points = table.filter(pl.col("kind") == "point")
    axes.scatter(points["x"], points["y"], c=points["chance"], cmap=shades, vmin=0, vmax=1, s=26, edgecolor="#b0b0b0",
                 linewidth=0.8, clip_on=False, zorder=5)  # fmt: skip
    for axis, values, ticks, scale in ((x, across, axes.xaxis, axes.set_xscale), (y, up, axes.yaxis, axes.set_yscale)):
        levels = study.levels(axis)
        if values[0] > 0 and values[-1] / values[0] >= 3:
            scale("log")
            style.log_ticks(ticks, low=values[0], high=values[-1], text=value_text)
        if len(levels) <= style.MOST_SERIES:
            ticks.set_ticks(levels, [value_text(level) for level in levels])
            ticks.set_ticks([], minor=True)
    axes.set_xlabel(axis_label(x))
    axes.set_ylabel(axis_label(y).replace(" (", "\n("))
    figure.colorbar(picture, ax=axes, label="fitted P(eureka)", fraction=0.06, pad=0.02)
    handles = [Line2D([], [], color=style.INK, linewidth=2, label="P = ½"),
               Line2D([], [], color=style.INK, linestyle=":", label="its 95% band")]  # fmt: skip
    figure.legend(handles=[*handles], loc="outside upper left", ncols=2)
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What was fitted, to what."""
    points = table.filter(pl.col("kind") == "point") if table.height else table
    of = study.events.select(study.axes[:2]).n_unique() if study.axes else 0
    some = f" of {of}, drawn by lot" if points.height == MOST_POINTS < of else ""
    n = f"{points.height} points{some} ({points['n'].sum():,.0f} runs)" if table.height else "no points"
    return (
        f"P(eureka by step {study.horizon_steps:,}) fitted to {n} by a Gaussian process on log odds; lines (drawn "
        "white): where the estimate and the ends of its pointwise 95% band cross one half. Circles: the configs, in "
        "the colour of their own estimate. See the calibration before reading it to a digit."
    )
