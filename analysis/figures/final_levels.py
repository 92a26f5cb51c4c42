"""Where runs end: a histogram of the final level, in which success and failure are two modes or are not."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures import style
from analysis.figures.event_curves import one_facet
from analysis.figures.selection import watched
from analysis.study import Study

NAME, TITLE = "final_levels", "Do runs end in two places?"
NOTHING = "No run that was watched has a final level."
BINS, MOST_FACETS = 40, 6
_LEVELS = {"plateau": "--", "floor": ":"}
_ORDER = ("eureka", "gradual", "censored", "diverged")
_WORDS = {"eureka": "eureka", "gradual": "solved gradually", "censored": "stopped without", "diverged": "diverged"}
_HATCH = {"eureka": "", "gradual": "----", "censored": "////", "diverged": "xxxx"}


def table(study: Study) -> pl.DataFrame:
    """One row a (facet, way, bin): low, high [metric], runs; the last bin is open above (diverged runs).

    Also plateau and floor of the facet's task [metric]; null where its runs differ in them.
    """
    rows = watched(study).filter(pl.col("final_level").is_finite())
    if rows.is_empty():
        return pl.DataFrame()
    facet = one_facet(study, most=MOST_FACETS)
    known = study.runs.select(
        "run_id", plateau=study.level_of(study.detector.plateau), floor=study.level_of(study.detector.floor)
    )
    level = pl.col(facet) if facet else pl.lit(None, dtype=pl.String)
    rows = rows.with_columns(facet=level).join(known, on="run_id", how="left")
    calm = rows.filter(pl.col("way") != "diverged")
    held = pl.concat([(calm if calm.height else rows)["final_level"], rows["plateau"], rows["floor"]]).drop_nulls()
    low, high = (float(f(held.to_numpy())) for f in (np.min, np.max))  # the task's levels show how far a run came
    width = (high - low) / BINS or max(abs(high), 1.0) / BINS
    number = ((pl.col("final_level") - low) / width).floor().clip(0, BINS).cast(pl.Int64)
    counted = rows.select("way", "facet", bin=number).group_by("facet", "way", "bin").agg(runs=pl.len())
    only = [pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first()).alias(name) for name in _LEVELS]
    counted = counted.join(rows.group_by("facet").agg(only), on="facet", nulls_equal=True)
    return counted.with_columns(low=low + pl.col("bin") * width, high=low + (pl.col("bin") + 1) * width).sort(
        "facet", "way", "bin", nulls_last=True
    )


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Bars stacked by what became of the run; dashed lines are the task's plateau and floor."""
    if table.is_empty():
        return style.sentence(NOTHING)
    facet = one_facet(study, most=MOST_FACETS)
    parts = table.partition_by("facet", maintain_order=True)
    figure, grid = style.panels(len(parts), width=2.8, height=2.2)
    for axes, rows in zip(grid, parts, strict=True):
        below: dict[int, float] = {}
        for way in _ORDER:
            for row in rows.filter(pl.col("way") == way).iter_rows(named=True):
                axes.bar(
                    row["low"], row["runs"], row["high"] - row["low"], bottom=below.get(row["bin"], 0), align="edge",
                    color=style.OF_WAY[way], hatch=_HATCH[way] or None, edgecolor="white", linewidth=0.4,
                )  # fmt: skip
                below[row["bin"]] = below.get(row["bin"], 0) + row["runs"]
        for name, dash in _LEVELS.items():
            if (value := rows[name][0]) is not None:
                axes.axvline(value, color=style.INK, linestyle=dash, linewidth=0.9)
        told = rows["facet"][0]
        name = style.panel_title(facet, told) if facet and told is not None else "all settings"
        axes.set_title(f"{style.wrapped(name, width=2.8, lines=2)} (n = {rows['runs'].sum():,})")
    grid[0].set_ylabel("runs")
    figure.supxlabel(f"final {study.detector.metric}", fontsize=9)  # nats or squared error, by task
    handles = [
        Patch(facecolor=style.OF_WAY[way], hatch=_HATCH[way], edgecolor="white", label=_WORDS[way])
        for way in _ORDER
        if way in set(table["way"])
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What the level is."""
    return (
        f"Level of the {study.detector.metric} where each run ended: after its eureka, or the median of its last three "
        "bins. Dashed: task's plateau; dotted: its floor. Two heaps with nothing between say that a mean over runs "
        "describes none. Diverged runs beyond the axis stand in the last bar."
    )
