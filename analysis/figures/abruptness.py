"""Rise ratio against midpoint: whether late eurekas are as abrupt as early ones, and how near the cut they are."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from analysis.figures import style
from analysis.figures.event_curves import facet_and_series
from analysis.figures.selection import thinned, watched
from analysis.labels import axis_label, value_text
from analysis.study import Study

NAME, TITLE = "abruptness", "Are late eureka-moments as abrupt as early ones?"
NOTHING = "No run had a eureka-moment, so there is no abruptness to show."
MOST_MARKS = 800


def table(study: Study) -> pl.DataFrame:
    """One row a drawn eureka: run_id, series level, eureka_step [steps], rise_ratio [1]; of: eurekas in all [runs]."""
    _, series = facet_and_series(study)
    had = watched(study).filter((pl.col("way") == "eureka") & pl.col("rise_ratio").is_finite())
    if had.is_empty():
        return pl.DataFrame()
    level = pl.col(series) if series else pl.lit(None, dtype=pl.String)
    rows = had.select("run_id", "eureka_step", "rise_ratio", series=level, of=pl.len(), all=pl.lit(0))
    kept = thinned(rows.sort("eureka_step", "run_id"), most=MOST_MARKS, over="all")
    return kept.select("run_id", "series", "eureka_step", "rise_ratio", "of")


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A mark an eureka on logarithmic axes; the dashed line is the detector's cut."""
    if table.is_empty():
        return style.sentence(NOTHING)
    _, series = facet_and_series(study)
    figure, (axes,) = style.separate(1, width=6.0, height=3.0)
    levels = table["series"].unique().sort(nulls_last=True).to_list()
    is_many = len(levels) > style.MOST_SERIES
    colours = style.ramp([None] if is_many else levels)
    for i, level in enumerate([None] if is_many else levels):
        rows = table if is_many else table.filter(pl.col("series").eq_missing(level))
        marker, name = style.MARKERS[i % len(style.MARKERS)], value_text(level)
        axes.plot(
            rows["eureka_step"], rows["rise_ratio"], marker, color=colours[i], markersize=3.5, alpha=0.6, label=name
        )
    if study.detector.method == "contrast":
        axes.axhline(study.detector.most_rise, color=style.INK, linestyle="--", linewidth=1)
    axes.set_yscale("log", base=2)
    axes.set_yticks([1, 1.25, 1.5, 2], ["1", "1.25", "1.5", "2"])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0.98, max(2.1, float(table["rise_ratio"].to_numpy().max()) * 1.05))
    steps = table["eureka_step"].to_numpy()
    style.log_step_axis(axes, low=float(steps.min()) * 0.85, high=float(steps.max()) * 1.15)
    axes.set_xlabel("eureka step (log scale) [optimiser steps]")
    axes.set_ylabel("rise ratio t90 / t10 (log scale)")
    handles = [Line2D([], [], color=style.INK, linestyle="--", linewidth=1, label="largest ratio that counts")]
    if series and not is_many:
        figure.legend(title=axis_label(series), title_fontsize=8, loc="outside right upper")
    if study.detector.method == "contrast":
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 1.12))
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What a mark is."""
    of = int(table["of"][0]) if table.height else 0
    some = f" {table.height:,} of {of:,} eurekas are drawn, evenly over their order." if table.height < of else ""
    return (
        "One mark an eureka: the steps at nine tenths over one tenth of its fall, against its midpoint. Bins limit it "
        f"from below; slower falls are `gradual` and are not here.{some}"
    )
