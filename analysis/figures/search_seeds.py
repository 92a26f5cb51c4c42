"""Where a search with adaptive replicates put its seeds, and what each config's interval came to."""

import polars as pl
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.interval import binomial_interval
from analysis.labels import config_text
from analysis.sequential import width_rule
from analysis.study import Study

NAME, TITLE = "search_seeds", "Where did the seeds go?"
NOTHING = "No search with adaptive replicates."


def table(study: Study) -> pl.DataFrame:
    """One row a config: config, in words; n, k: runs, those with an event by T; chance, low, high [fraction].

    Events are those of the online rule, by which the search decided. Where it ended by widths, intervals are the
    ones that it went by.
    """
    search = study.search
    if search is None or search.name != "replicates" or "online_event_step" not in study.runs.columns:
        return pl.DataFrame()
    at_step = search.by_step(next(iter(search.objectives))) or study.horizon_steps
    fields = [field for field in search.fields if field in study.runs.columns]
    had = pl.col("online_event_step").is_not_null() & (pl.col("online_event_step") <= at_step)
    told = study.runs.filter(pl.col("status") != "failed")
    rows = told.group_by(fields).agg(n=pl.len().cast(pl.Int64), k=had.sum().cast(pl.Int64)).sort(fields)
    if rows.is_empty() or not fields:
        return pl.DataFrame()
    options = search.options
    level, width = float(options.get("level", 0.95)), float(options.get("width", 0.3))
    if options.get("until", "narrow") == "narrow":
        try:
            looks = {"first": int(options.get("first", 8)), "each": int(options.get("each", 4))}
            level = width_rule(width, level=level, **looks).look_level
        except AnalysisError:
            return pl.DataFrame()
    ends = [binomial_interval(k, n=n, level=level) for k, n in rows.select("k", "n").iter_rows()]
    return rows.select(
        pl.Series("config", [config_text(row, axes=fields) for row in rows.iter_rows(named=True)]), "n", "k",
        chance=pl.col("k") / pl.col("n"), low=pl.Series([low for low, _ in ends]),
        high=pl.Series([high for _, high in ends]),
    )  # fmt: skip


def draw(table: pl.DataFrame, *, study: Study) -> Figure:
    """Intervals beside the runs that they took."""
    if table.is_empty():
        return style.sentence(NOTHING)
    figure = style.new_figure(7.4, 1.0 + 0.26 * table.height)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    y = list(range(table.height))[::-1]
    left.hlines(y, table["low"], table["high"], color=style.BLUE, linewidth=1.8)
    left.scatter(table["chance"], y, color=style.BLUE, s=24, zorder=3)
    left.set_yticks(y, table["config"].to_list())
    left.set_xlim(-0.03, 1.03)
    left.set_xlabel("P(eureka)")
    right.barh(y, table["n"], color=style.FAINT, height=0.7)
    right.barh(y, table["k"], color=style.BLUE, height=0.7)
    right.set_xlabel("runs; with a eureka, in blue")
    return figure


def caption(table: pl.DataFrame, *, study: Study) -> str:
    """What it ended by, and what that saved."""
    assert study.search is not None
    options = study.search.options
    spent, equal = int(table["n"].sum()), table.height * int(table["n"].max())  # type: ignore[arg-type]
    ends = (
        f"until every interval was at most {float(options.get('width', 0.3)):g} wide; intervals (Wilson's at a raised "
        "level) hold although the search looked again and again"
        if options.get("until", "narrow") == "narrow"
        else "until each was told from the reference; intervals are Wilson's 95% ones"
    )
    return (
        f"{table.height} configs were given seeds {ends}. {spent:,} runs; as many seeds for each config as the "
        f"one that had most would have been {equal:,}. Events are those of the online rule."
    )
