"""Where learning switches on: the line on which P(eureka by T) has the value that the search looked for, with its band.

Needs scikit-learn (extra `surface`). With three settings, a panel for a low, middle and high value of the third.
"""

from typing import Any

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.labels import axis_label, value_text
from analysis.study import Study
from analysis.surface import Scale, Surface, fit_surface
from analysis.trials import PARAM

NAME, TITLE = "search_line", "Where does learning switch on?"
NOTHING = "No line: it takes a `boundary` search, eight points of it, a P that varies, and the extra [surface]."
SIDE = 61
OF_THIRD = (0.1, 0.5, 0.9)


def table(study: Study) -> pl.DataFrame:
    """Rows of two kinds: `grid` (panel; third: its value; x, y; chance, _lo, _hi) and `run` (x, y, event)."""
    search = study.search
    if search is None or search.name != "boundary":
        return pl.DataFrame()
    fields = [field for field in search.fields if search.trials.schema[PARAM + field].is_numeric()][:3]
    at_step = search.by_step(next(iter(search.objectives))) or study.horizon_steps
    events = _as_told(study, fields, at_step=at_step)
    if not fields or events.is_empty():
        return pl.DataFrame()
    try:
        surface = fit_surface(events, axes=fields, at_step=at_step)
    except AnalysisError:
        return pl.DataFrame()
    shares = OF_THIRD if len(fields) > 2 else OF_THIRD[:1]
    grids = [_grid(surface, panel=panel, share=share) for panel, share in enumerate(shares)]
    had = pl.col("status") == "eureka"
    runs = events.filter(pl.col("status") != "failed").select(
        kind=pl.lit("run"),
        x=pl.col(fields[0]).cast(pl.Float64),
        y=pl.col(fields[1]).cast(pl.Float64) if len(fields) > 1 else had.cast(pl.Float64),
        event=had,
    )
    return pl.concat([*grids, runs], how="diagonal_relaxed")


def _as_told(study: Study, fields: list[str], *, at_step: float) -> pl.DataFrame:
    """EVENTS as the search was told them, by the online rule, which a run's early end does not concern."""
    if "online_event_step" not in study.runs.columns:
        return pl.DataFrame()
    missing = [field for field in fields if field not in study.events.columns]
    told = study.events.join(study.runs.select("run_id", "online_event_step", *missing), on="run_id", how="left")
    had = (pl.col("online_event_step") <= at_step).fill_null(value=False)
    is_out = pl.col("status").is_in(["failed", "diverged"]) & ~had
    nothing, horizon = pl.lit(None, dtype=pl.Float64), pl.lit(float(study.horizon_steps))
    way = pl.when(had).then(pl.lit("eureka")).when(is_out).then(pl.col("status")).otherwise(pl.lit("censored"))
    return told.with_columns(
        status=way,
        kind=pl.when(had).then(pl.lit("eureka")).when(is_out).then(pl.col("kind")).otherwise(pl.lit("none")),
        eureka_step=pl.when(had).then(pl.col("online_event_step").cast(pl.Float64)).otherwise(nothing),
        censored_step=pl.when(had | is_out).then(nothing).otherwise(horizon),
        solved_step=nothing,
    )


def _grid(surface: Surface, *, panel: int, share: float) -> pl.DataFrame:
    sides = [_even(scale) for scale in surface.axes[:2]]
    mesh = np.meshgrid(*sides, indexing="ij")
    names = [scale.name for scale in surface.axes]
    frame = pl.DataFrame({name: side.ravel() for name, side in zip(names, mesh, strict=False)})
    third = None
    if len(names) > 2:
        third = float(np.quantile(_even(surface.axes[2]), share))
        frame = frame.with_columns(pl.lit(third).alias(names[2]))
    found = surface.predict(frame)
    y = pl.col(names[1]) if len(names) > 1 else pl.lit(None, dtype=pl.Float64)
    return found.select(
        pl.lit("grid").alias("kind"), pl.lit(panel).alias("panel"), pl.lit(third, dtype=pl.Float64).alias("third"),
        pl.col(names[0]).alias("x"), y.alias("y"), "chance", "chance_lo", "chance_hi",
    )  # fmt: skip


def _even(scale: Scale) -> np.ndarray:
    return scale.levels(SIDE)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Colour is the fitted P, the line and its band are white; full circles had their event, empty ones none."""
    if table.is_empty():
        return style.sentence(NOTHING)
    search = study.search
    assert search is not None
    fields = [field for field in search.fields if search.trials.schema[PARAM + field].is_numeric()][:3]
    level = float(search.options.get("chance", 0.5))
    grid, runs = table.filter(pl.col("kind") == "grid"), table.filter(pl.col("kind") == "run")
    if len(fields) == 1:
        return _draw_one(grid, runs, field=fields[0], level=level, is_log=search.is_log(fields[0]))
    panels = grid.partition_by("panel", maintain_order=True)
    width = 6.4 if len(panels) == 1 else 3.6
    figure, axes_of = style.separate(len(panels), columns=3, width=width, height=4.0 if len(panels) == 1 else 3.2)
    for axes, rows in zip(axes_of, panels, strict=True):
        picture = _draw_panel(axes, rows, runs, level=level, with_runs=len(panels) == 1)
        for axis, field in ((axes.xaxis, fields[0]), (axes.yaxis, fields[1])):
            values = rows["x" if axis is axes.xaxis else "y"]
            if search.is_log(field):
                (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
                style.log_ticks(axis, low=float(values.min()), high=float(values.max()), text=value_text)  # type: ignore[arg-type]
        axes.set_xlabel(axis_label(fields[0]))
        axes.set_ylabel(axis_label(fields[1]).replace(" (", "\n("))
        if len(fields) > 2:
            axes.set_title(style.panel_title(fields[2], rows["third"][0]))
    figure.colorbar(picture, ax=axes_of, label=f"fitted P(eureka by {_at_step(study):,})", fraction=0.06, pad=0.02)
    of_run = [
        Line2D([], [], marker="o", linestyle="", color=colour, markeredgecolor=style.INK, markersize=5, label=words)
        for colour, words in (("white", "run with a eureka"), (style.INK, "run without"))
    ]
    handles = [Line2D([], [], color=style.INK, linewidth=2, label=f"P = {level:g}"),
               Line2D([], [], color=style.INK, linestyle=":", label="its 95% band"), *of_run]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return figure


def _draw_panel(axes: Axes, rows: pl.DataFrame, runs: pl.DataFrame, *, level: float, with_runs: bool) -> Any:
    across, up = (rows[name].unique().sort().to_numpy() for name in "xy")
    chance, low, high = (
        rows.sort("x", "y")[name].to_numpy().reshape(len(across), -1).T for name in ("chance", "chance_lo", "chance_hi")
    )
    shades = colormaps["cividis"]
    picture = axes.pcolormesh(across, up, chance, cmap=shades, vmin=0, vmax=1, shading="gouraud", rasterized=True)
    for height, dashes, width in ((low, ":", 1.3), (high, ":", 1.3), (chance, "-", 2.2)):
        if height.min() < level < height.max():
            axes.contour(across, up, height, levels=[level], colors="white", linestyles=dashes, linewidths=width)
    if with_runs:
        for event, colour, edge in ((True, "white", style.INK), (False, style.INK, "white")):
            some = runs.filter(pl.col("event") == event)
            axes.scatter(
                some["x"], some["y"], s=20, color=colour, edgecolor=edge, linewidth=0.7, clip_on=False, zorder=5
            )
    return picture


def _draw_one(grid: pl.DataFrame, runs: pl.DataFrame, *, field: str, level: float, is_log: bool) -> Figure:
    figure, (axes,) = style.separate(1, width=6.0, height=3.2)
    rows = grid.sort("x")
    axes.fill_between(rows["x"], rows["chance_lo"], rows["chance_hi"], color=style.BLUE, alpha=0.2, linewidth=0)
    axes.plot(rows["x"], rows["chance"], color=style.BLUE)
    axes.axhline(level, color=style.QUIET, linewidth=1, linestyle="--")
    axes.plot(runs["x"], runs["event"].cast(pl.Float64), "|", color=style.INK)
    if is_log:
        axes.set_xscale("log")
        style.log_ticks(axes.xaxis, low=float(rows["x"].min()), high=float(rows["x"].max()), text=value_text)  # type: ignore[arg-type]
    axes.set_xlabel(axis_label(field))
    axes.set_ylabel("P(eureka)")
    return figure


def _at_step(study: Study) -> int:
    assert study.search is not None
    return study.search.by_step(next(iter(study.search.objectives))) or study.horizon_steps


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What was fitted, to what."""
    assert study.search is not None
    n = table.filter(pl.col("kind") == "run").height
    level = float(study.search.options.get("chance", 0.5))
    return (
        f"P(eureka by step {_at_step(study):,}) fitted to all {n:,} runs of the search by a Gaussian process on log "
        f"odds; lines (drawn white): where the estimate, and the ends of its pointwise 95% band, are {level:g}. The "
        "search asked for runs where they tell most about the line; away from it the colour is a guess. Events are "
        "those of the online rule, as the search was told them."
    )
