"""How long the wait was, over two axes, among runs that had their eureka: the twin of the map of P.

Runs that had none have no wait, and their budgets never enter the colour; the words in a cell say how many there were.
"""

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.cells import FEW_RUNS, Cell, Key, draw_cells, levels_of, lines_of_words, sides
from analysis.figures.selection import watched
from analysis.interval import median_interval
from analysis.study import Study

NAME, TITLE = "wait_map", "How long do those wait that get there?"
NOTHING = "Fewer than two configs had a eureka, so there are no waits to set side by side."
WIDEST = 2.0  # octaves of the median's interval from which a cell is palest

_MEDIAN = ("t50", "t50_lo", "t50_hi")


def table(study: Study) -> pl.DataFrame:
    """One row a cell: x, y levels; n runs, k with a eureka; t50, its interval and the quartiles q25, q75 [steps]."""
    x, y = sides(study)
    if not x:
        return pl.DataFrame()
    by = [axis for axis in (x, y) if axis]
    had = pl.col("eureka_step").filter(pl.col("status") == "eureka")
    cells = (
        watched(study).group_by(by)
        .agg(n=pl.len().cast(pl.Int64), k=(pl.col("status") == "eureka").sum().cast(pl.Int64),
             q25=had.quantile(0.25, "linear"), q75=had.quantile(0.75, "linear"), steps=had.drop_nulls().sort())
        .sort(by, nulls_last=True)
    )  # fmt: skip
    ends = [median_interval(steps) if steps else (None, None, None) for steps in cells["steps"].to_list()]
    cells = cells.hstack(pl.DataFrame(ends, schema=dict.fromkeys(_MEDIAN, pl.Float64), orient="row"))
    level = {name: pl.col(axis) if axis else pl.lit(None, dtype=pl.String) for name, axis in (("x", x), ("y", y))}
    if cells["t50"].drop_nulls().len() < 2:
        return pl.DataFrame()
    return cells.select(level["x"].alias("x"), level["y"].alias("y"), "n", "k", *_MEDIAN, "q25", "q75")


def _unsure(row: Mapping[str, Any]) -> float:
    """Octaves of the median's interval, as a share of WIDEST; all of it where there are too few for an interval."""
    return 1.0 if row["t50_lo"] is None else math.log2(row["t50_hi"] / row["t50_lo"]) / WIDEST


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Logarithmic colour, pale where the median is unsure; white where no run had one."""
    if table.is_empty():
        return style.sentence(NOTHING)
    known = table["t50"].drop_nulls().to_numpy()
    norm = LogNorm(float(known.min()), float(max(known.max(), known.min() * 1.2)))
    cells = [
        Cell(
            x=row["x"], y=row["y"], value=row["t50"], is_few=row["k"] < FEW_RUNS, unsure=_unsure(row),
            head=style.brief(row["t50"]) if row["t50"] is not None else "–",
            words=f"{style.brief(row['q25'])}–{style.brief(row['q75'])} ({row['k']}/{row['n']})"
            if row["t50"] is not None else f"0/{row['n']}",
        )
        for row in table.iter_rows(named=True)
    ]  # fmt: skip
    key = Key(shades=colormaps["cividis_r"], norm=norm, label="median eureka\nstep [steps]", widths=("1×", "4×"),
              widths_label="interval's\nends apart")  # fmt: skip
    figure = draw_cells(cells, study=study, key=key)
    style.log_ticks(figure.axes[-1].yaxis, low=float(known.min()), high=float(max(known.max(), known.min() * 1.2)))
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What the words in a cell are."""
    told = (
        "Colour: the median eureka step of the runs that had one; there are too many cells for words, which the table "
        "has. ",
        "Each cell: the median eureka step of the runs that had one. ",
        "Each cell: the median eureka step of the runs that had one, below it their quartiles (a spread, not an "
        "interval) and k/n. ",
    )
    return (
        f"{told[lines_of_words(levels_of(table))]}Colour is logarithmic, and the paler, the farther apart are the ends "
        "of the median's 95% interval (ranks; palest where there are fewer than six eurekas, which have none); white: "
        f"none had one. Hatched: fewer than {FEW_RUNS} eurekas. Given that it came: where few succeed, the waits are "
        "those of the fastest."
    )
