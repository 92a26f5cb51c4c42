"""What the page says, as plain values: the template only lays them out."""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.detect import DETECTORS
from analysis.estimate import level_table
from analysis.figures import FIGURES, style
from analysis.labels import axis_label, estimate_text, value_text
from analysis.report.findings import counts
from analysis.study import Study

LARGE = 200_000  # bytes of CSV above which the embedded copy is compressed


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One figure as the page and the folder have it."""

    name: str
    title: str
    svg: str | None
    caption: str
    csv: str
    nothing: str


def shown_figures(study: Study) -> list[Shown]:
    """Every figure, drawn; one without data keeps its place, with a sentence."""
    shown = []
    for figure in FIGURES:
        table = figure.table(study)
        with style.look():
            picture = style.svg(figure.draw(table, study=study), name=figure.NAME) if table.height else None
        text = " ".join([figure.caption(table, study=study), _footing(study)]) if table.height else ""
        shown.append(
            Shown(
                name=figure.NAME,
                title=figure.TITLE,
                svg=picture,
                caption=text,
                csv=csv_text(table),
                nothing=figure.NOTHING,
            )
        )
    return shown


def _footing(study: Study) -> str:
    """What every caption ends with: n, who is not in it, the detector."""
    tally = counts(study)
    watched = sum(tally[name] for name in ("eureka", "gradual", "censored", "diverged"))
    pooled = f" Pooled over {', '.join(study.pooled_axes)}." if study.pooled_axes else ""
    return (
        f"In all, n = {watched} runs: {tally['eureka']} eureka, {tally['censored']} censored without one, "
        f"{tally['gradual']} solved gradually, {tally['diverged']} diverged; left out: {tally['failed']} failed, "
        f"{tally['waiting']} waiting. Detector {study.detector.name}.{pooled}"
    )


def csv_text(table: pl.DataFrame) -> str:
    """A table as CSV; floats to six digits, which is more than any was measured to."""
    if not table.width:
        return ""
    floats = [name for name, dtype in table.schema.items() if dtype.is_float()]
    return table.with_columns(pl.col(floats).round_sig_figs(6)).write_csv()


def data_uri(text: str) -> tuple[str, str]:
    """A link that holds the file itself, and the file's suffix; large ones gzipped, without a date."""
    raw = text.encode()
    if len(raw) <= LARGE:
        return f"data:text/csv;base64,{base64.b64encode(raw).decode()}", ".csv"
    return f"data:application/gzip;base64,{base64.b64encode(gzip.compress(raw, mtime=0)).decode()}", ".csv.gz"


def config_rows(study: Study, table: pl.DataFrame) -> list[dict[str, Any]]:
    """The config table as words."""
    rows = []
    for row in table.iter_rows(named=True):
        median = estimate_text(row["median_step"], row["median_lo"], row["median_hi"], digits=0, none="not reached")
        if row["n"] == 0:
            median = "–"
        rows.append(
            {
                "settings": [value_text(row[axis]) for axis in study.axes],
                "counts": [
                    row[name] for name in ("n", "eureka", "gradual", "censored", "diverged", "failed", "waiting")
                ],
                "chance": estimate_text(row["chance"], row["chance_lo"], row["chance_hi"]),
                "share": row["chance"],
                "median": median,
                "mean": estimate_text(
                    row["restricted_mean"], row["restricted_mean_lo"], row["restricted_mean_hi"], digits=0
                ),
                "cost": estimate_text(
                    row["steps_per_eureka"], row["steps_per_eureka_lo"], row["steps_per_eureka_hi"], digits=0
                ),
            }
        )
    return rows


def effects(study: Study) -> list[dict[str, Any]]:
    """P(eureka) at each level of each axis, pooled over the others."""
    if study.events.filter(pl.col("status") != "failed").is_empty():
        return []
    found = []
    for axis in study.axes:
        table = level_table(study.events, axis=axis, at_step=study.horizon_steps)
        rows = [
            {
                "value": value_text(row["value"]),
                "n": row["n"],
                "chance": estimate_text(row["chance"], row["chance_lo"], row["chance_hi"]),
            }
            for row in table.iter_rows(named=True)
        ]
        found.append({"axis": axis_label(axis), "rows": rows})
    return found


def failures(study: Study) -> list[dict[str, Any]]:
    """Failed and diverged runs with their reason, the commonest first."""
    bad = study.runs.filter(pl.col("status").is_in(["failed", "diverged"]))
    reason = pl.col("reason").str.replace(r" at step \d+$", "")
    table = bad.group_by("status", reason.alias("reason")).agg(n=pl.len(), example=pl.col("run_id").min())
    return table.sort("n", "status", "reason", descending=[True, False, False]).to_dicts()


def agreement(study: Study) -> str:
    """How often the rule that stopped runs online and the detector read the same curve alike."""
    if "online_event_step" not in study.runs.columns or study.runs.is_empty():
        return "no run has ended yet"
    both = study.events.filter(pl.col("status") != "failed").join(
        study.runs.select("run_id", "online_event_step"), on="run_id"
    )
    online, here = pl.col("online_event_step").is_not_null(), pl.col("status") == "eureka"
    tally = both.select(
        yes=(online & here).sum(),
        no=(~online & ~here).sum(),
        online=(online & ~here).sum(),
        here=(~online & here).sum(),
    ).row(0, named=True)
    return (
        f"the online rule and {study.detector.name} agree on {tally['yes'] + tally['no']} of {both.height} runs; "
        f"{tally['online']} events were seen online only, {tally['here']} by the detector only"
    )


def provenance(study: Study) -> list[tuple[str, str]]:
    """Where the numbers come from, as pairs of words."""
    rows = study.runs

    def distinct(column: str) -> str:
        if column not in rows.columns:
            return "not recorded"
        values = rows[column].drop_nulls().unique().sort().to_list()
        return (
            "; ".join(map(value_text, values[:12])) + (f" … {len(values) - 12} more" if len(values) > 12 else "")
            if values
            else "not recorded"
        )

    used = (
        {study.detector.name: study.detector}
        if study.detector.name not in DETECTORS
        else {study.detector.name: DETECTORS[study.detector.name]}
    )
    seconds = rows["seconds"].sum() if "seconds" in rows.columns and rows.height else 0
    return [
        ("sweep", study.name),
        ("planned", f"{study.planned} runs, {study.replicates} a config"),
        ("horizon", f"{study.horizon_steps:,} optimiser steps"),
        ("detector", "; ".join(map(str, used.values()))),
        ("agreement", agreement(study)),
        ("devices", distinct("device")),
        ("widths [runs]", distinct("width")),
        ("versions", distinct("versions")),
        ("store schema", distinct("schema_version")),
        ("initialisation seeds", distinct("seed.init")),
        ("data seeds", distinct("seed.data")),
        ("training time", f"{seconds / 3600:.2f} h in all"),
    ]


def sweep_text(study: Study, *, yaml: str) -> str:
    """The resolved sweep: its YAML where the store has it, else its record."""
    kept: Mapping[str, Any] = {key: value for key, value in study.record.items() if key not in ("runs", "yaml")}
    return yaml.strip() or json.dumps(kept, indent=1, sort_keys=True)
