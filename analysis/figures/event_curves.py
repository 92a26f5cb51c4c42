"""Cumulative P(eureka by step): who had it by when, with what is lost to divergence and to stopping in plain sight."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.selection import evenly, thinned
from analysis.labels import axis_label, value_text
from analysis.life_table import at_risk
from analysis.study import Study
from analysis.survival import curve

NAME, TITLE = "event_curves", "When do runs have their eureka-moment?"
NOTHING = "No run has ended yet that could be watched, so there is no curve."
COLUMNS, MOST_POINTS = 3, 120
MOST_FACETS, MOST_LINES = 6, 6
LONGEST_NAME = 16  # beside the numbers at risk [characters]
MOST_BANDS = 4  # lines of a panel whose bands can still be told apart; more have theirs at the horizon, side by side


def facet_and_series(study: Study) -> tuple[str | None, str | None]:
    """The axis that panels run over, with the fewer levels, and the axis that lines run over."""
    shown = study.shown_axes
    if not shown or study.events.is_empty():
        return None, None
    if len(shown) == 1:
        return None, shown[0]
    first, second = shown
    return (first, second) if len(study.levels(first)) <= len(study.levels(second)) else (second, first)


def one_facet(study: Study, *, most: int) -> str | None:
    """The axis that panels without lines run over: of two the one with fewer levels, unless even it has too many."""
    facet, series = facet_and_series(study)
    axis = facet or series
    return axis if axis and len(study.levels(axis)) <= most else None


def table(study: Study) -> pl.DataFrame:
    """The curve of every setting, and the runs at risk at five steps.

    Returns:
        `facet` and `series` levels (null where there is no such axis), then what `survival.curve` gives; rows with
        `is_tick` hold at_risk at a step of the axis [runs].
    """
    facet, series = facet_and_series(study)
    by = [axis for axis in (facet, series) if axis]
    if study.events.filter(pl.col("status") != "failed").is_empty():
        return pl.DataFrame()
    events = _drawn(study, facet=facet, series=series)
    watched = at_risk(events, at_steps=[study.horizon_steps * i / 4 for i in range(5)], by=by)
    lines = curve(events, by=by)
    last = lines.group_by(by, maintain_order=True).last() if by else lines.tail(1)
    # where no run is left that could still have one, the estimate holds to the horizon
    settled = last.filter(
        (pl.col("chance") + pl.col("lost") >= 1 - 1e-9) & (pl.col("step") < study.horizon_steps)
    ).with_columns(pl.col("n_eureka", "n_lost", "n_censored", "at_risk") * 0, step=pl.lit(float(study.horizon_steps)))
    lines = pl.concat([lines, settled.select(lines.columns)]).with_columns(is_tick=pl.lit(False))
    keys = pl.concat_str([pl.col(axis).cast(pl.String).fill_null("") for axis in by] or [pl.lit("")], separator=";")
    lines = thinned(lines.with_columns(line=keys), most=MOST_POINTS, over="line").drop("line")
    rows = pl.concat([lines, watched.with_columns(is_tick=pl.lit(True))], how="diagonal_relaxed")
    return rows.select(_level(facet).alias("facet"), _level(series).alias("series"), pl.exclude(by)).sort(
        "facet", "series", "is_tick", "step", nulls_last=True, maintain_order=True
    )


def _drawn(study: Study, *, facet: str | None, series: str | None) -> pl.DataFrame:
    """EVENTS rows of as many levels as can be drawn, evenly over their order."""
    events = study.events
    for axis, most in ((facet, MOST_FACETS), (series, MOST_LINES)):
        if axis and len(levels := study.levels(axis)) > most:
            kept = pl.DataFrame({axis: [levels[i] for i in evenly(len(levels), most=most)]})
            kept = kept.cast({axis: events.schema[axis]})
            events = events.join(kept, on=axis, how="semi", nulls_equal=True)
    return events if events["status"].ne("failed").any() else study.events


def _level(axis: str | None) -> pl.Expr:
    return pl.col(axis) if axis else pl.lit(None, dtype=pl.String)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel a facet, a step line a setting with its band; ticks are censored runs, crosses are lost ones."""
    if table.is_empty():
        return style.sentence(NOTHING)
    facet, series = facet_and_series(study)
    facets = table["facet"].unique(maintain_order=True).to_list()[:MOST_FACETS]
    levels = table["series"].unique(maintain_order=True).sort(nulls_last=True).to_list()[:MOST_LINES]
    figure, grid = _layout(len(facets), lines=len(levels))
    colours, is_few = style.ramp(levels), len(levels) <= MOST_BANDS
    for i, ((axes, below), level) in enumerate(zip(grid, facets, strict=True)):
        mine = table.filter(pl.col("facet").eq_missing(level))
        for j, (each, colour) in enumerate(zip(levels, colours, strict=True)):
            rows = mine.filter(pl.col("series").eq_missing(each))
            lines = rows.filter(~pl.col("is_tick"))
            _line(axes, lines, colour=colour, marker=style.MARKERS[j], has_band=is_few)
            if not is_few and lines.height:
                _interval(axes, lines.row(-1, named=True), at=study.horizon_steps * (1.03 + 0.03 * j), colour=colour)
            for step, n in rows.filter("is_tick").select("step", "at_risk").iter_rows():
                below.text(step, j, f"{n:,}", ha="center", va="center", fontsize=7, color=colour)
        if facet:
            axes.set_title(style.panel_title(facet, level))
        axes.set_ylim(0, 1.02)
        style.step_axis(axes, horizon=study.horizon_steps)
        if not is_few:
            axes.set_xlim(right=study.horizon_steps * (1.03 + 0.03 * len(levels)))
            axes.set_xticks([step for step in axes.get_xticks() if 0 <= step <= study.horizon_steps])
        axes.set_xlabel("optimiser steps", labelpad=1)
        if i % style.columns_for(len(facets), most=COLUMNS) == 0:
            axes.set_ylabel("P(eureka by step)")
        below.set_xlim(axes.get_xlim())
        _under(below, [value_text(each) if series else "all" for each in levels], colours=colours)
    _legend(figure, series, levels, colours)
    return figure


def _layout(n: int, *, lines: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Panels in rows of three, each with a strip below for the runs at risk."""
    columns = style.columns_for(n, most=COLUMNS)
    rows = -(-n // columns)
    strip = 0.17 * lines + 0.1
    figure = style.new_figure(max(3.1 * columns + 0.4, 6.4), (2.6 + strip) * rows + 0.5)
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.1, strip] * rows)
    pairs = [
        (grid[2 * (i // columns)][i % columns], grid[2 * (i // columns) + 1][i % columns])
        for i in range(rows * columns)
    ]
    for pair in pairs[n:]:
        for axes in pair:
            axes.set_axis_off()
    return figure, pairs[:n]


def _under(below: Axes, names: list[str], *, colours: list[object]) -> None:
    """The strip's frame: one line a setting, in its colour."""
    below.set_ylim(len(names) - 0.4, -0.6)
    is_short = max(map(len, names)) <= LONGEST_NAME
    below.set_yticks(range(len(names)), names if is_short else [""] * len(names), fontsize=7)
    for i, colour in enumerate([] if is_short else colours):  # long names would leave the panels no room
        below.plot(
            -0.06, i, style.MARKERS[i], color=colour, markersize=4, transform=below.get_yaxis_transform(), clip_on=False
        )
    for label, colour in zip(below.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    below.set_xticks([])
    below.tick_params(length=0, pad=9)
    below.spines[:].set_visible(False)
    below.set_title("at risk", fontsize=7, loc="left", color=style.QUIET, pad=1)


def _interval(axes: Axes, last: dict[str, Any], *, at: float, colour: object) -> None:
    axes.plot([at, at], [last["chance_lo"], last["chance_hi"]], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot(at, last["chance"], "_", color=colour, markersize=5)


def _line(axes: Axes, rows: pl.DataFrame, *, colour: object, marker: str, has_band: bool) -> None:
    if rows.is_empty():
        return
    step, chance = rows["step"].to_numpy(), rows["chance"].to_numpy()
    begun = rows.filter(pl.col("chance") > 0)  # before, every band is the same block from 0
    if has_band:
        axes.fill_between(
            begun["step"], begun["chance_lo"], begun["chance_hi"], step="post", color=colour, alpha=0.10, linewidth=0
        )
    axes.step(step, chance, where="post", color=colour, linewidth=1.6)
    events = rows.filter(pl.col("n_eureka") > 0)
    axes.plot(events["step"], events["chance"], marker, color=colour, markersize=3.2, linestyle="none")
    stopped = rows.filter(pl.col("n_censored") > 0)
    axes.plot(
        stopped["step"], stopped["chance"], "|", color=colour, markersize=8, markeredgewidth=1.2, linestyle="none"
    )
    gone = rows.filter(pl.col("n_lost") > 0)
    axes.plot(
        gone["step"],
        gone["chance"],
        "x",
        color=style.VERMILLION,
        markersize=5,
        markeredgewidth=1.4,
        linestyle="none",
        zorder=5,
    )


def _legend(figure: Figure, series: str | None, levels: list[object], colours: list[object]) -> None:
    handles = [
        Line2D([], [], color=colour, marker=style.MARKERS[i], markersize=4, label=value_text(level))
        for i, (level, colour) in enumerate(zip(levels, colours, strict=True))
    ]
    if series:
        figure.legend(
            handles=handles,
            title=axis_label(series),
            loc="outside upper left",
            ncols=style.legend_columns([value_text(level) for level in levels], width=figure.get_figwidth() - 2.4),
            title_fontsize=8,
        )
    marks = [
        Line2D(
            [], [], color=style.QUIET, marker="|", markersize=8, linestyle="none", label="stopped without (censored)"
        ),
        Line2D(
            [],
            [],
            color=style.VERMILLION,
            marker="x",
            markersize=5,
            linestyle="none",
            label="diverged or solved gradually",
        ),
    ]
    figure.legend(handles=marks, loc="outside upper right")


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What is shown, from how many runs, by which method."""
    left = [
        f"{most} of {len(study.levels(axis))} levels of {axis}"
        for axis, most in zip(facet_and_series(study), (MOST_FACETS, MOST_LINES), strict=True)
        if axis and len(study.levels(axis)) > most
    ]
    some = f" Drawn, evenly over their order: {' and '.join(left)}." if left else ""
    is_few = not table.height or table["series"].n_unique() <= MOST_BANDS
    where = "drawn from each line's first eureka on" if is_few else "drawn at the end, right of the panel's horizon"
    return (
        "Share of runs that have had their eureka-moment by each step: Aalen-Johansen estimate, in which a diverged or "
        f"gradually solved run is a competing exit. Bands: pointwise 95% Rothman-Wilson intervals, {where}. "
        f"Below: runs still watched and without an event.{some}"
    )
