"""Every eureka laid over the others, by the step's ratio to its midpoint: how abrupt each is, whenever it comes."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.figures import style
from analysis.figures.event_curves import one_facet
from analysis.study import Study

NAME, TITLE = "aligned", "How abrupt is it, seen from the event?"
NOTHING = "No run had a eureka-moment, so there is nothing to align."
PER_OCTAVE = 24
SPAN = (-2.0, 0.6)  # octaves before and after the midpoint
MOST_FACETS = 4


def table(study: Study) -> pl.DataFrame:
    """Median and 10-90% range over runs, in bins of 1/24 octave around the midpoint.

    Returns:
        facet level; octave: log2(step / eureka_step) [octaves]; middle, low, high: of (loss - floor) / (plateau -
        floor), 1 on the plateau and 0 at the floor [1]; runs: how many are in the bin; of: runs aligned in the
        panel. Bins that fewer than half of the runs reach, or fewer than two, are left out, so that the band never
        changes its runs unseen.
    """
    facet = one_facet(study, most=MOST_FACETS)
    had = study.events.filter((pl.col("status") == "eureka") & pl.col("plateau_level").is_not_null())
    if had.is_empty():
        return pl.DataFrame()
    level = pl.col(facet) if facet else pl.lit(None, dtype=pl.String)
    had = had.select("run_id", "eureka_step", "plateau_level", "final_level", facet=level).join(
        study.runs.select("run_id", floor=study.level_of(study.detector.floor)), on="run_id", how="left"
    )
    had = had.with_columns(floor=pl.coalesce("floor", "final_level"), of=pl.len().over("facet"))
    per_run = _on_grid(study.digest.join(had, on="run_id").sort("run_id", "bin"))
    bands = per_run.group_by("facet", "octave").agg(
        middle=pl.col("share").median(),
        low=pl.col("share").quantile(0.1, "linear"), high=pl.col("share").quantile(0.9, "linear"),
        runs=pl.len(), of=pl.col("of").first(),
    )  # fmt: skip
    reached = (pl.col("runs") * 2 >= pl.col("of")) & (pl.col("runs") >= pl.min_horizontal(2, "of"))
    return bands.filter(reached).sort("facet", "octave", nulls_last=True)


def _on_grid(bins: pl.DataFrame) -> pl.DataFrame:
    """Each run's height, interpolated between its bins onto one grid of octaves: facet, of, octave, share [1]."""
    grid = np.arange(round(SPAN[0] * PER_OCTAVE), round(SPAN[1] * PER_OCTAVE) + 1) / PER_OCTAVE
    octave = (bins["at_step"].clip(lower_bound=1) / bins["eureka_step"]).log(2).to_numpy()
    share = ((bins["value"] - bins["floor"]) / (bins["plateau_level"] - bins["floor"])).to_numpy()
    starts = np.flatnonzero(np.append(True, (bins["run_id"] != bins["run_id"].shift(1)).to_numpy()[1:]))
    parts = zip(np.split(octave, starts[1:]), np.split(share, starts[1:]), strict=True)
    height = [np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in parts]
    long = bins[starts.repeat(len(grid))].select("facet", "of")
    long = long.with_columns(octave=pl.Series(np.tile(grid, len(starts))), share=pl.Series(np.concatenate(height)))
    return long.filter(pl.col("share").is_finite())


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel a facet: median line, 10-90% band, the midpoint at the dotted line."""
    if table.is_empty():
        return style.sentence(NOTHING)
    facet = one_facet(study, most=MOST_FACETS)
    parts = table.partition_by("facet", maintain_order=True)
    figure, grid = style.panels(len(parts), width=2.7, height=2.2)
    for axes, rows in zip(grid, parts, strict=True):
        axes.fill_between(rows["octave"], rows["low"], rows["high"], color=style.BLUE, alpha=0.2, linewidth=0)
        axes.plot(rows["octave"], rows["middle"], color=style.BLUE, linewidth=1.6)
        axes.axvline(0, color=style.QUIET, linestyle=":", linewidth=1)
        n = rows["of"][0]
        name = style.panel_title(facet, rows["facet"][0]) if facet and rows["facet"][0] is not None else "all settings"
        axes.set_title(f"{style.wrapped(name, width=2.7, lines=2)} ({n:,} {'run' if n == 1 else 'runs'})")
        axes.set_xlim(*SPAN)
        axes.set_ylim(-0.1, 1.3)
        axes.set_yticks([0, 0.5, 1])
        axes.set_xticks([-2, -1, 0, 0.585])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2**value:.2g}×"))
    figure.supxlabel("step, as a multiple of the eureka step (log scale)", fontsize=9)
    grid[0].set_ylabel("height above the floor\n(plateau = 1, floor = 0)")
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What is laid over what, and which detector put it there."""
    n = study.events.filter(pl.col("status") == "eureka").height
    return (
        f"{n} runs with a eureka, each on its own clock and scale. Line: median over runs; band: 10% to 90% of runs, "
        "a spread and not an interval. Drawn where at least half of a panel's runs have data. Aligning sharpens by "
        "construction: it shows the fall's shape, not that there is one."
    )
