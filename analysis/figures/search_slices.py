"""Each setting of a search against what it was told, pooled over the others."""

import polars as pl
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from analysis.figures import style
from analysis.figures.search_words import objective_words
from analysis.labels import axis_label, value_text
from analysis.study import Study
from analysis.trials import PARAM

NAME, TITLE = "search_slices", "What did the search see along each setting?"
NOTHING = "No search, or no setting of it that varies."

WIDE = 300.0  # times, from which powers of ten alone fit below a panel


def table(study: Study) -> pl.DataFrame:
    """One row a told trial and setting: field; trial; order, of the telling; number or word; value, low, high."""
    search = study.search
    if search is None or not search.objectives:
        return pl.DataFrame()
    rows = search.told(next(iter(search.objectives))).with_row_index("order")
    if rows.is_empty():
        return pl.DataFrame()
    parts = []
    for field in search.fields[: style.MOST_PANELS]:
        column = pl.col(PARAM + field)
        is_number = rows.schema[PARAM + field].is_numeric()
        number = column.cast(pl.Float64) if is_number else pl.lit(None, dtype=pl.Float64)
        word = pl.lit(None, dtype=pl.String) if is_number else column.cast(pl.String)
        there = rows.filter(column.is_not_null())
        parts.append(there.select(pl.lit(field).alias("field"), "trial", pl.col("order").cast(pl.Int64),
                                  number.alias("number"), word.alias("word"), "value", "low", "high"))  # fmt: skip
    return pl.concat(parts) if parts else pl.DataFrame()


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """A panel a setting; later trials are darker."""
    if table.is_empty():
        return style.sentence(NOTHING)
    search = study.search
    assert search is not None
    fields = table["field"].unique(maintain_order=True).to_list()
    figure, panels = style.separate(len(fields), columns=3, width=3.1, height=2.7)
    shades = colormaps["cividis_r"]
    for index, (axes, field) in enumerate(zip(panels, fields, strict=True)):
        rows = table.filter(pl.col("field") == field)
        words = rows["word"].drop_nulls().unique().sort().to_list()
        x = [words.index(word) for word in rows["word"]] if words else rows["number"].to_list()
        low, high = (rows[name].fill_null(rows["value"]) for name in ("low", "high"))
        axes.vlines(x, low, high, color=style.FAINT, linewidth=1)
        last = max(1, int(table["order"].max()))  # type: ignore[arg-type]
        order = 0.15 + 0.85 * rows["order"].to_numpy() / last
        axes.scatter(x, rows["value"], s=16, c=order, cmap=shades, vmin=0, vmax=1, zorder=3)
        if words:
            axes.set_xticks(range(len(words)), [value_text(word) for word in words])
            axes.set_xlim(-0.5, len(words) - 0.5)
        elif search.is_log(field):
            axes.set_xscale("log")
            style.log_ticks(axes.xaxis, low=min(x), high=max(x), text=value_text)
            if max(x) / min(x) > WIDE:
                axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.set_xlabel(axis_label(field).replace(" (", "\n("))
        if index % style.columns_for(len(fields), most=3) == 0:
            axes.set_ylabel(objective_words(next(iter(search.objectives))))
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What not to read out of it."""
    return (
        f"{table['trial'].n_unique()} trials along each setting, with 95% intervals; the darker, the later told. "
        "Pooled over the other settings, and a search asks more where it hopes: a crowd of good values is where it "
        "looked, not by itself a reason."
    )
