"""P(eureka by the horizon) over two axes: each cell says k of n, the estimate and its interval."""

import polars as pl
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.estimate import config_table
from analysis.figures import style
from analysis.figures.cells import FEW_RUNS, Cell, Key, draw_cells, levels_of, lines_of_words, sides
from analysis.labels import estimate_text
from analysis.study import Study

NAME, TITLE = "chance_map", "How likely is a eureka-moment?"
NOTHING = "No run has ended yet, so no chance can be estimated."


def table(study: Study) -> pl.DataFrame:
    """One row a cell: the shown axes (`x`, `y` levels), n and k runs, chance with its interval [fraction]."""
    x, y = sides(study)
    if study.events.is_empty():
        return pl.DataFrame()
    planned = study.planned_cells
    if planned is not None:
        planned = planned.group_by(study.shown_axes).agg(pl.col("planned").sum())
    cells = config_table(study.events, axes=study.shown_axes, at_step=study.horizon_steps, planned=planned)
    level = {name: pl.col(axis) if axis else pl.lit(None, dtype=pl.String) for name, axis in (("x", x), ("y", y))}
    keep = ("n", "failed", "waiting", "chance", "chance_lo", "chance_hi")
    return cells.select(level["x"].alias("x"), level["y"].alias("y"), pl.col("eureka").alias("k"), *keep)


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Dark is unlikely, bright is likely, pale is unsure; words where there is room for them."""
    if table.is_empty():
        return style.sentence(NOTHING)
    cells = [
        Cell(
            x=row["x"], y=row["y"], value=row["chance"], is_few=row["n"] < FEW_RUNS, head=f"{row['k']}/{row['n']}",
            unsure=1.0 if row["chance"] is None else row["chance_hi"] - row["chance_lo"],
            words=estimate_text(row["chance"], row["chance_lo"], row["chance_hi"], none="not known yet"),
        )
        for row in table.iter_rows(named=True)
    ]  # fmt: skip
    key = Key(shades=colormaps["cividis"], norm=Normalize(0, 1), label="P(eureka)", widths=("0", "1"),
              widths_label="interval's\nwidth")  # fmt: skip
    return draw_cells(cells, study=study, key=key)


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What the words in a cell are."""
    chance = f"P(eureka by step {study.horizon_steps:,})"
    told = (
        f"Colour: {chance}; there are too many cells for words, which the table has. ",
        f"Each cell: runs with a eureka of runs watched; colour: {chance}. ",
        f"Each cell: runs with a eureka of runs watched, then {chance} with its 95% Rothman-Wilson interval. ",
    )
    return (
        f"{told[lines_of_words(levels_of(table))]}The paler, the wider that interval. Hatched: fewer than {FEW_RUNS} "
        "runs. Failed and waiting runs are not in n."
    )
