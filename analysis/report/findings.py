"""The finding in plain words: what was run, how likely a eureka is, where most and least, and along which axis."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from analysis.estimate import COUNTS, config_table, level_table, outcome
from analysis.labels import config_text, estimate_text, short, value_text
from analysis.report.search_findings import search_lines
from analysis.study import Study

WIDEST = 110  # characters a line, for a terminal


def counts(study: Study) -> dict[str, int]:
    """All planned runs, each counted once: by outcome, and `waiting` [runs]."""
    ways = study.events.select(outcome().alias("way"))["way"]
    return {name: int((ways == name).sum()) for name in COUNTS} | {"waiting": study.waiting}


def finding(study: Study, *, table: pl.DataFrame | None = None) -> list[str]:
    """Exactly five lines of at most WIDEST characters; every estimate has its 95% interval and n [runs].

    Args:
        study: the sweep.
        table: its `config_table`, where it is at hand.
    """
    if table is None:
        table = config_table(
            study.events, axes=study.settings, at_step=study.horizon_steps, planned=study.planned_cells
        )
    lines = [_counted(study, n_configs=table.height), *_estimates(study, table)]
    return [_cut(line) for line in lines]


def _counted(study: Study, *, n_configs: int) -> str:
    tally = counts(study)
    parts = [f"{n:,} {name}" for name, n in tally.items() if n or name == "eureka"]
    configs = f" in {n_configs:,} configs" if study.settings and n_configs else ""
    return f"{study.planned:,} runs planned{configs}: {', '.join(parts)}"


def _estimates(study: Study, table: pl.DataFrame) -> list[str]:
    until = f"by step {study.horizon_steps:,}"
    if study.events.filter(pl.col("status") != "failed").is_empty():
        nothing = (
            "No run has ended that could be watched" if study.events.is_empty() else "Every run that ended has failed"
        )
        return [
            f"{nothing}: P(eureka {until}) is not known yet",
            *("Highest: not known yet", "Lowest: not known yet", "Along the axes: not known yet"),
        ]
    overall = config_table(study.events, axes=(), at_step=study.horizon_steps).row(0, named=True)
    if study.asked and study.search and study.search.name != "replicates":  # whose configs are all of the space's
        return search_lines(study, chance=_chance(overall))
    pooled = f", pooled over {table.height:,} configs" if table.height > 1 else ""
    first = f"P(eureka {until}): {_chance(overall)}{pooled}"
    known = table.filter(pl.col("chance").is_not_null())
    if table.height < 2 or known.is_empty():
        wait = estimate_text(
            overall["median_step"], overall["median_lo"], overall["median_hi"], digits=0, none="not reached"
        )
        mean = estimate_text(
            overall["restricted_mean"], overall["restricted_mean_lo"], overall["restricted_mean_hi"], digits=0
        )
        cost = estimate_text(
            overall["steps_per_eureka"],
            overall["steps_per_eureka_lo"],
            overall["steps_per_eureka_hi"],
            digits=0,
            none="no eureka",
        )
        return [
            first,
            f"Step by which half have had it: {wait}, n={overall['n']}",
            f"Mean steps to eureka, {study.horizon_steps:,} if none: {mean}, n={overall['n']}",
            f"Steps spent per eureka, restarting: {cost}, n={overall['n']}",
        ]
    return [first, *_extremes(known, axes=study.settings), _along(study)]


def _extremes(known: pl.DataFrame, *, axes: tuple[str, ...]) -> list[str]:
    """The configs with the highest and lowest estimate; ties are counted, not hidden."""
    if _spread(known) < 1e-9:
        low, high = float(known["chance_lo"].to_numpy().min()), float(known["chance_hi"].to_numpy().max())
        alike = estimate_text(known["chance"][0], low, high)
        fewest = int(known["n"].to_numpy().min())
        return [f"Highest: none, all {known.height} configs are at {alike} n={fewest} or more", "Lowest: the same"]
    lines = []
    for word, descending in (("Highest", True), ("Lowest", False)):
        # among equals the better-known one speaks: more runs first
        ranked = known.sort("chance", "n", descending=[descending, True], maintain_order=True)
        best = ranked.row(0, named=True)
        ties = known.filter((pl.col("chance") - best["chance"]).abs() < 1e-9).height - 1
        tied = f" (and {ties} more)" if ties else ""
        lines.append(f"{word}: {_chance(best)}{tied} at {config_text(best, axes=axes)}")  # what is cut is the config
    return lines


def _along(study: Study) -> str:
    """The axis over whose levels the pooled estimate moves most, between its lowest and highest level."""
    tables = [
        level_table(study.events, axis=axis, at_step=study.horizon_steps).drop_nulls("chance")
        for axis in study.settings
    ]
    tables = [table for table in tables if table.height > 1]
    if not tables:
        return "Along the axes: only one level of each has an estimate so far"
    widest = max(tables, key=_spread)
    if _spread(widest) < 1e-9:
        return "Along the axes: no axis moves the estimate"
    low, high = (
        widest.sort("chance", "n", descending=[down, True], maintain_order=True).row(0, named=True)
        for down in (False, True)
    )
    name = short(low["axis"])
    ends = f"{_chance(low)} at {value_text(low['value'])}; {_chance(high)} at {value_text(high['value'])}"
    return f"Most along {name}, pooled: {ends}"


def _spread(table: pl.DataFrame) -> float:
    """Between the highest and the lowest estimate [fraction]."""
    return float(np.ptp(table["chance"].to_numpy()))


def _chance(row: Mapping[str, Any]) -> str:
    return f"{estimate_text(row['chance'], row['chance_lo'], row['chance_hi'], none='not known')} n={row['n']:,}"


def _cut(line: str) -> str:
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"
