"""What becomes of all runs, step by step: eureka, solved gradually, diverged, still on the plateau, stacked to one."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from analysis.figures import style
from analysis.figures.selection import placed, thinned, watched
from analysis.study import Study
from analysis.survival import curve

NAME, TITLE = "outcomes", "What becomes of the runs?"
NOTHING = "No run has ended yet that could be watched, so nothing has become of any."
MOST_PANELS, MOST_POINTS = 8, 300
_CAUSES = ("eureka", "gradual", "diverged")
_WORDS = {
    "eureka": "had its eureka",
    "gradual": "solved gradually",
    "diverged": "diverged",
    "left": "none of these yet",
}
_HALO = [withStroke(linewidth=2, foreground="white")]  # for words on any ground
_HATCH = {"eureka": "", "gradual": "----", "diverged": "xxxx"}


def table(study: Study) -> pl.DataFrame:
    """Cumulative incidence of every way to end: config, place, way, step [steps], chance, _lo, _hi [fraction], n.

    Rows with way `at risk` hold the runs still watched at five steps in `at_risk` [runs]. The last place of several
    pools all configs.
    """
    drawn, _ = placed(study, most=MOST_PANELS - 1)
    if drawn.is_empty():
        return pl.DataFrame()
    if drawn["place"].n_unique() > 1:
        everyone = watched(study).with_columns(
            config=pl.lit("all configs, pooled"), place=pl.lit(MOST_PANELS, dtype=pl.Int64)
        )
        drawn = pl.concat([drawn.select(everyone.columns), everyone])
    parts = [_incidence(drawn, way) for way in _CAUSES if way in set(drawn["way"]) or way == "eureka"]
    ticks = pl.DataFrame({"step": [study.horizon_steps * i / 4 for i in range(5)]})
    left = pl.when(pl.col("way") == "eureka").then("eureka_step").otherwise("end_step")
    risk = (
        drawn.select("config", "place", left=left).join(ticks, how="cross").group_by("config", "place", "step")
        .agg(at_risk=(pl.col("left") >= pl.col("step")).sum().cast(pl.Int64), n=pl.len().cast(pl.Int64))
        .with_columns(way=pl.lit("at risk"))
    )  # fmt: skip
    return pl.concat([*parts, risk], how="diagonal_relaxed").sort("place", "way", "step", maintain_order=True)


def _incidence(rows: pl.DataFrame, way: str) -> pl.DataFrame:
    """Aalen and Johansen's estimate with one way to end in the role of the event, the others competing."""
    if way != "eureka":
        mine = pl.col("way") == way
        rows = rows.with_columns(
            status=pl.when(mine).then(pl.lit("eureka")).when(pl.col("way") == "censored").then(pl.lit("censored"))
            .otherwise(pl.lit("diverged")),
            kind=pl.when(mine).then(pl.lit("eureka")).when(pl.col("way") == "censored").then("kind")
            .otherwise(pl.lit("diverged")),
            eureka_step=pl.when(mine).then(pl.coalesce("solved_step", "end_step").cast(pl.Float64)),
            end_step=pl.when(pl.col("way") == "eureka").then(pl.col("eureka_step").cast(pl.Int64))
            .when(pl.col("way") == "gradual").then(pl.coalesce("solved_step", "end_step").cast(pl.Int64))
            .otherwise("end_step"),
        )  # fmt: skip
        if way == "diverged":
            rows = rows.with_columns(
                eureka_step=pl.when(pl.col("way") == way).then(pl.col("end_step").cast(pl.Float64))
            )
    found = thinned(curve(rows, by=["place", "config"]), most=MOST_POINTS, over="place")
    return found.select(
        "config", "place", "step", "chance", "chance_lo", "chance_hi", pl.col("n").cast(pl.Int64), way=pl.lit(way)
    )


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel a config, areas from the bottom up, with the runs at risk below."""
    if table.is_empty():
        return style.sentence(NOTHING)
    parts = table.partition_by("place", maintain_order=True)
    figure, grid = style.panels(len(parts), columns=4 if len(parts) > 3 else 3, width=2.3, height=2.2)
    for axes, rows in zip(grid, parts, strict=True):
        _stack(axes, rows, horizon=study.horizon_steps)
        n = rows["n"][0]
        title = style.wrapped(rows["config"][0], width=2.3, lines=2)
        axes.set_title(f"{title}\nn = {n:,}{' (few)' if n < 5 else ''}", fontsize=8)
    for axes in grid[:: style.columns_for(len(parts), most=4 if len(parts) > 3 else 3)]:
        axes.set_ylabel("share of runs")
    figure.supxlabel("optimiser steps; small numbers: runs at risk", fontsize=9)
    ways = [way for way in _CAUSES if way in set(table["way"])]
    handles = [
        Patch(facecolor=style.OF_WAY[way], alpha=0.75, hatch=_HATCH[way], edgecolor="white", label=_WORDS[way])
        for way in ways
    ]
    handles.append(Patch(facecolor="white", edgecolor=style.QUIET, label=_WORDS["left"]))
    figure.legend(handles=handles, loc="outside upper left", ncols=4 if figure.get_figwidth() > 7 else 2)
    return figure


def _stack(axes: Axes, rows: pl.DataFrame, *, horizon: float) -> None:
    curves = [rows.filter(pl.col("way") == way) for way in _CAUSES if way in set(rows["way"])]
    steps = pl.concat([part.select("step") for part in curves]).unique().sort("step")
    steps = pl.concat([steps, pl.DataFrame({"step": [float(horizon)]})]).unique().sort("step")
    below = [0.0] * steps.height
    for part in curves:
        way = part["way"][0]
        held = steps.join_asof(part.select("step", "chance").sort("step"), on="step")["chance"].fill_null(0.0)
        above = [low + high for low, high in zip(below, held, strict=True)]
        axes.fill_between(
            steps["step"], below, above, step="post", color=style.OF_WAY[way], alpha=0.75, linewidth=0,
            hatch=_HATCH[way] or None, edgecolor="white",
        )  # fmt: skip
        if way == "eureka" and part.height > 1:
            last = part.row(-1, named=True)
            axes.plot([last["step"]] * 2, [last["chance_lo"], last["chance_hi"]], color=style.INK, linewidth=1)
        below = above
    axes.set_ylim(0, 1)
    style.step_axis(axes, horizon=horizon)
    axes.set_xticks([0, horizon / 2, horizon], ["0", style.brief(round(horizon / 2)), style.brief(horizon)])
    for step, n in rows.filter(pl.col("way") == "at risk").select("step", "at_risk").iter_rows():
        side, inwards = ("left", 2) if step == 0 else ("right", 0) if step == horizon else ("center", 0)
        axes.annotate(
            f"{n:,}", (step, 0.985), xytext=(inwards, 0), textcoords="offset points", fontsize=6, ha=side, va="top",
            color=style.INK, path_effects=_HALO,
        )  # fmt: skip


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What is stacked on what."""
    shown = table["place"].n_unique() - (1 if "all configs, pooled" in set(table["config"]) else 0)
    return (
        "Share of runs that ended each way by each step, stacked: Aalen-Johansen estimates in which every other way is "
        f"a competing exit; white: none of these yet. Bar: 95% interval of P(eureka) at its last step. {shown} configs "
        "are drawn, evenly over the ranking by share of eurekas."
    )
