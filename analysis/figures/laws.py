"""The wait against each setting, on logarithmic axes, with the power law that all runs together have."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from analysis.errors import AnalysisError
from analysis.estimate import outcome
from analysis.figures import style
from analysis.figures.selection import thinned
from analysis.labels import axis_label, value_text
from analysis.laws import Law, law_of
from analysis.study import Study

NAME, TITLE = "laws", "Is the wait a power of the settings?"
NOTHING = "No axis of positive numbers has two levels and two eurekas, so no power law can be fitted."
LINE_POINTS = 25
MOST_MARKS = 250  # of a way; evenly over its runs in the order of setting and step


def table(study: Study) -> pl.DataFrame:
    """Runs and lines of every setting of the law, told apart by `kind`.

    Returns:
        setting; kind: `run` with way (eureka or censored), value and step [steps], or `law` with value and step, lo,
        hi: median and interval where the other settings are at their geometric means; exponent with exponent_lo,
        exponent_hi, r2 [fraction], n and n_events [runs] in every row of the setting. Empty where there is no law.
    """
    try:
        law = law_of(study)
    except AnalysisError:
        return pl.DataFrame()
    runs = _runs(study, law)
    parts = []
    for row in law.table.iter_rows(named=True):
        name = row["setting"]
        told = {key: pl.lit(row[key]) for key in ("exponent", "exponent_lo", "exponent_hi", "n", "n_events")}
        marks = runs.select(
            kind=pl.lit("run"), way="way", value=pl.col(name).cast(pl.Float64), step="step",
            lo=pl.lit(None, dtype=pl.Float64), hi=pl.lit(None, dtype=pl.Float64),
        )  # fmt: skip
        line = _line(law, runs, name=name, first=row["from"], last=row["to"])
        kept = thinned(marks.sort("way", "value", "step"), most=MOST_MARKS, over="way")
        both = pl.concat([kept.sort("value", "step"), line]).with_columns(
            setting=pl.lit(name), r2=pl.lit(law.r2), **told
        )
        parts.append(both)
    columns = ("setting", "kind", "way", "value", "step", "lo", "hi")
    return pl.concat(parts).select(*columns, "exponent", "exponent_lo", "exponent_hi", "r2", "n", "n_events")


def _runs(study: Study, law: Law) -> pl.DataFrame:
    """Every run of the law: its settings, way and step; one without an event stands where it was last watched."""
    rows = study.events.filter(pl.col("status") != "failed").with_columns(
        way=pl.when(outcome() == "eureka").then(pl.lit("eureka")).otherwise(pl.lit("censored"))
    )
    step = pl.when(pl.col("way") == "eureka").then("eureka_step").otherwise("end_step").cast(pl.Float64)
    return rows.drop_nulls(law.settings).select(*law.settings, "way", step=step)


def _line(law: Law, runs: pl.DataFrame, *, name: str, first: float, last: float) -> pl.DataFrame:
    """The law along one setting, the others at their geometric means."""
    others = {other: runs.select(pl.col(other).log().mean().exp()).item() for other in law.settings if other != name}
    along = [first * (last / first) ** (i / (LINE_POINTS - 1)) for i in range(LINE_POINTS)]
    grid = pl.DataFrame({name: along}).with_columns(**{other: pl.lit(value) for other, value in others.items()})
    at = law.median_step(grid)
    return at.select(
        kind=pl.lit("law"), way=pl.lit(None, dtype=pl.String), value=pl.col(name), step="median_step", lo="median_lo",
        hi="median_hi",
    )  # fmt: skip


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel a setting; filled marks are events, open ones runs that were still waiting."""
    if table.is_empty():
        return style.sentence(NOTHING)
    panels = table.partition_by("setting", maintain_order=True)[: style.MOST_PANELS]
    columns = min(3, len(panels))
    figure = style.new_figure(3.3 * columns + 0.6, 2.7 * -(-len(panels) // columns) + 0.5)
    grid = figure.subplots(-(-len(panels) // columns), columns, sharey=True, squeeze=False).ravel()
    for spare in grid[len(panels) :]:
        spare.set_axis_off()
    for axes, rows in zip(grid, panels, strict=False):
        _panel(axes, rows)
    for axes in grid[:: max(columns, 1)]:
        axes.set_ylabel("optimiser steps")
    handles = [
        Line2D([], [], color=style.BLUE, marker="o", linestyle="none", markersize=4, label="eureka"),
        Line2D([], [], color=style.OF_WAY["censored"], marker=">", linestyle="none", markersize=4,
               markerfacecolor="white", label="left without one"),
        Line2D([], [], color=style.INK, linewidth=1.5, label="power law, with interval"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def _panel(axes, rows) -> None:  # type: ignore[no-untyped-def]
    first = rows.row(0, named=True)
    for way, marker, colour in (("censored", ">", style.OF_WAY["censored"]), ("eureka", "o", style.BLUE)):
        runs = rows.filter((pl.col("kind") == "run") & (pl.col("way") == way) & (pl.col("step") > 0))
        face = "white" if way == "censored" else colour
        axes.plot(runs["value"], runs["step"], marker, color=colour, markerfacecolor=face, markersize=3.5, alpha=0.7)
    line = rows.filter(pl.col("kind") == "law")
    axes.plot(line["value"], line["step"], color=style.INK, linewidth=1.5)
    if line["lo"].drop_nulls().len():
        axes.fill_between(line["value"], line["lo"], line["hi"], color=style.INK, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    levels = rows.filter(pl.col("kind") == "run")["value"].unique().sort().to_list()
    if len(levels) <= style.MOST_SERIES:
        axes.set_xticks(levels, [value_text(level) for level in levels])
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        style.log_ticks(axes.xaxis, low=levels[0], high=levels[-1], text=value_text)
    axes.margins(x=0.1)
    low, high = axes.get_ylim()
    style.log_ticks(axes.yaxis, low=low, high=high)
    axes.set_xlabel(axis_label(first["setting"]))
    axes.set_title(_exponent_text(first))


def _exponent_text(row: dict[str, float | None]) -> str:
    if row["exponent_lo"] is None:
        return f"exponent {row['exponent']:.2f}"
    return f"exponent {row['exponent']:.2f} [{row['exponent_lo']:.2f}, {row['exponent_hi']:.2f}]"


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What the line is and what it is made from."""
    if table.is_empty():
        return NOTHING
    row = table.row(0, named=True)
    first = table.filter((pl.col("setting") == row["setting"]) & (pl.col("kind") == "run"))
    some = f" {first.height:,} of them are marked, evenly over setting and step." if first.height < row["n"] else ""
    return (
        "One mark a run, at its eureka step or where it was last watched. Line: the median wait of the power law "
        f"fitted to all {row['n']:,} runs ({row['n_events']:,} eurekas) with runs that had none taken as censored, "
        "other settings at their geometric means; band and brackets: 95% intervals. "
        f"R² {row['r2']:.3f} of ln steps.{some}"
    )
