"""What one objective costs in another: all trials, and those that no other beats in both."""

import polars as pl
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.search_words import objective_words
from analysis.study import Study

NAME, TITLE = "search_front", "What does one objective cost in the other?"
NOTHING = "No search of two objectives or more."


def table(study: Study) -> pl.DataFrame:
    """One row a trial with both of the first two objectives.

    Returns:
        trial; x, y: values of the second and the first objective, each with _lo, _hi; is_front: no other is as good in
        both and better in one.
    """
    search = study.search
    if search is None or len(search.objectives) < 2:
        return pl.DataFrame()
    (up, is_up_more), (across, is_across_more) = list(search.objectives.items())[:2]
    parts = [
        search.told(label).select("trial", pl.col("value").alias(name), pl.col("low").alias(f"{name}_lo"),
                                  pl.col("high").alias(f"{name}_hi"))
        for name, label in (("x", across), ("y", up))
    ]  # fmt: skip
    both = parts[0].join(parts[1], on="trial").sort("trial")
    if both.is_empty():
        return pl.DataFrame()
    x = both["x"].to_numpy() * (-1 if is_across_more else 1)  # less is better in either
    y = both["y"].to_numpy() * (-1 if is_up_more else 1)
    no_worse = (x[None] <= x[:, None]) & (y[None] <= y[:, None])
    better = (x[None] < x[:, None]) | (y[None] < y[:, None])
    return both.with_columns(is_front=pl.Series(~(no_worse & better).any(1)))


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """The front as a line through its trials, the others pale."""
    if table.is_empty():
        return style.sentence(NOTHING)
    assert study.search is not None
    up, across = list(study.search.objectives)[:2]
    figure, (axes,) = style.separate(1, width=6.0, height=3.6)
    for is_front, colour, size in ((False, style.FAINT, 18), (True, style.BLUE, 34)):
        rows = table.filter(pl.col("is_front") == is_front)
        if is_front:
            axes.vlines(rows["x"], rows["y_lo"].fill_null(rows["y"]), rows["y_hi"].fill_null(rows["y"]),
                        color=colour, linewidth=1, alpha=0.6)  # fmt: skip
            axes.hlines(rows["y"], rows["x_lo"].fill_null(rows["x"]), rows["x_hi"].fill_null(rows["x"]),
                        color=colour, linewidth=1, alpha=0.6)  # fmt: skip
        edge = style.QUIET if not is_front else colour
        axes.scatter(rows["x"], rows["y"], s=size, color=colour, edgecolor=edge, linewidth=0.6, zorder=3,
                     label="no other is better in both" if is_front else "others")  # fmt: skip
    front = table.filter(pl.col("is_front")).sort("x", "y")
    axes.step(front["x"], front["y"], where="post", color=style.BLUE, linewidth=1.2)
    axes.set_xlabel(objective_words(across))
    axes.set_ylabel(objective_words(up))
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What a front of noisy values is worth."""
    n = int(table["is_front"].sum())
    return (
        f"{table.height} trials; {n} of them are as good as any other in one objective, given the other. Lines through "
        "these: 95% intervals of both values. The front is that of values as told, each from few seeds; a trial whose "
        "interval reaches across the line may belong to it, or not."
    )
