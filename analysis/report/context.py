"""What the page says, as plain values: the template only lays them out."""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.detect import DETECTORS
from analysis.errors import AnalysisError
from analysis.estimate import level_table
from analysis.export import write_table
from analysis.figures import FigureModule, figures_for, style
from analysis.figures.stored import metric_names, other_digest
from analysis.labels import axis_label, estimate_text, value_text
from analysis.report import manifest
from analysis.report.findings import counts
from analysis.study import Study

WAYS = {"gradual": "gradual", "without": "censored", "diverged": "diverged", "failed": "failed", "waiting": "waiting"}
LARGE = 200_000  # bytes of CSV above which the embedded copy is compressed
LARGEST = 1_000_000  # compressed bytes above which the page has no copy, and only names the file beside it


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One figure as the page and the folder have it; without `svg` it is left out, and `nothing` says why."""

    name: str
    title: str
    svg: str | None
    caption: str
    csv: str
    nothing: str


def shown_figures(
    study: Study, *, out_dir: Path, inputs: Mapping[str, str], pdf: bool = False
) -> tuple[list[Shown], dict[str, Any]]:
    """Every figure with data, its files written; those that an earlier report in the folder has are read back.

    Returns:
        The figures, and their entries of the manifest.
    """
    known = manifest.earlier(out_dir)
    shown, entries = [], {}
    for figure in figures_for(study):
        key = manifest.key_of(figure.NAME, inputs=inputs, study=study)
        entry = known.get(figure.NAME, {})
        found = _read_back(figure, entry, out_dir=out_dir, pdf=pdf) if entry.get("key") == key else None
        one = found or _made(figure, study=study, out_dir=out_dir, pdf=pdf)
        shown.append(one)
        entries[figure.NAME] = {"key": key, "is_shown": one.svg is not None, "caption": one.caption, "why": one.nothing}
    return shown, entries


def _read_back(figure: FigureModule, entry: Mapping[str, Any], *, out_dir: Path, pdf: bool) -> Shown | None:
    """The figure as an earlier report drew it; None where a file of it is gone."""
    words: dict[str, Any] = {"name": figure.NAME, "title": figure.TITLE}
    if not entry["is_shown"]:
        return Shown(svg=None, caption="", csv="", nothing=entry["why"], **words)
    picture, table = files_of(figure.NAME, out_dir=out_dir)
    if not all(path.exists() for path in (*picture[: 2 if pdf else 1], *table)):
        return None
    return Shown(svg=picture[0].read_text(), csv=table[0].read_text(), caption=entry["caption"], nothing="", **words)


def _made(figure: FigureModule, *, study: Study, out_dir: Path, pdf: bool) -> Shown:
    """The figure made and its files written; without data they are removed, so that none of another report stays."""
    picture, files = files_of(figure.NAME, out_dir=out_dir)
    words: dict[str, Any] = {"name": figure.NAME, "title": figure.TITLE}
    try:
        table, why = figure.table(study), figure.NOTHING
    except AnalysisError as error:
        table, why = pl.DataFrame(), f"{figure.NOTHING} ({error})"
    if not table.height:
        for path in (*picture, *files):
            path.unlink(missing_ok=True)
        return Shown(svg=None, caption="", csv="", nothing=why, **words)
    with style.look():
        drawing = figure.draw(table, study=study)
        svg = style.svg(drawing, name=figure.NAME)
        picture[0].write_text(svg)
        picture[1].unlink(missing_ok=True)  # an earlier one may show other runs
        if pdf:
            drawing.set_layout_engine("none")  # it has just been laid out
            drawing.savefig(picture[1], format="pdf", metadata=dict.fromkeys(("CreationDate", "Creator", "Producer")))
    for path in files:
        write_table(table, path, title=figure.TITLE)
    caption = " ".join([figure.caption(table, study=study), _footing(study)])
    return Shown(svg=svg, caption=caption, csv=files[0].read_text(), nothing="", **words)


def files_of(name: str, *, out_dir: Path) -> tuple[list[Path], list[Path]]:
    """A figure's pictures (svg, pdf) and tables (csv, parquet, tex)."""
    pictures = [out_dir / "figures" / f"{name}.{suffix}" for suffix in ("svg", "pdf")]
    return pictures, [out_dir / "tables" / f"{name}.{suffix}" for suffix in ("csv", "parquet", "tex")]


def _footing(study: Study) -> str:
    """What every caption ends with: n, who is not in it, the detector."""
    tally = counts(study)
    watched = sum(tally[name] for name in ("eureka", "gradual", "censored", "diverged"))
    pooled = f" Pooled over {', '.join(study.pooled_axes)}." if study.pooled_axes else ""
    return (
        f"In all, n = {watched:,} runs: {tally['eureka']:,} eureka, {tally['censored']:,} censored without one, "
        f"{tally['gradual']:,} solved gradually, {tally['diverged']:,} diverged; left out: {tally['failed']:,} failed, "
        f"{tally['waiting']:,} waiting. Detector {study.detector.name}.{pooled}"
    )


def data_uri(text: str) -> tuple[str, str] | None:
    """A link that holds the file itself, and its suffix; large ones gzipped, without a date; none for the largest."""
    raw = text.encode()
    if len(raw) <= LARGE:
        return f"data:text/csv;base64,{base64.b64encode(raw).decode()}", ".csv"
    packed = gzip.compress(raw, mtime=0) if len(raw) <= 20 * LARGEST else b""
    if not packed or len(packed) > LARGEST:
        return None
    return f"data:application/gzip;base64,{base64.b64encode(packed).decode()}", ".csv.gz"


def with_accuracy(study: Study, table: pl.DataFrame) -> pl.DataFrame:
    """The config table with the mean over runs of the accuracy in their last bin; null where none was recorded."""
    nothing = table.with_columns(accuracy=pl.lit(None, dtype=pl.Float64))
    if "accuracy" not in metric_names(study) or study.runs.is_empty():
        return nothing
    last = other_digest(study, "accuracy").group_by("run_id").agg(accuracy=pl.col("value").sort_by("bin").last())
    keys = list(study.settings)
    runs = study.events.filter(pl.col("status") != "failed").select("run_id", *keys).join(last, on="run_id")
    if runs.is_empty():
        return nothing
    if not keys:
        return table.with_columns(accuracy=pl.lit(float(runs.select(pl.mean("accuracy")).item())))
    means = runs.group_by(keys).agg(pl.col("accuracy").mean())
    return table.join(means, on=keys, how="left", nulls_equal=True, maintain_order="left")


def config_rows(study: Study, table: pl.DataFrame) -> list[dict[str, Any]]:
    """The config table as words."""
    rows = []
    for row in table.iter_rows(named=True):
        median = estimate_text(row["median_step"], row["median_lo"], row["median_hi"], digits=0, none="not reached")
        if row["n"] == 0:
            median = "–"
        rows.append(
            {
                "settings": [value_text(row[name]) for name in study.settings],
                "counts": [
                    row[name] for name in ("n", "eureka", "gradual", "censored", "diverged", "failed", "waiting")
                ],
                "chance": estimate_text(row["chance"], row["chance_lo"], row["chance_hi"]),
                "ways": {word: row[name] for word, name in WAYS.items()},
                "share": row["chance"],
                "accuracy": "–" if row["accuracy"] is None else f"{row['accuracy']:.3f}",
                "sort": [
                    row[name] for name in ("chance", "eureka", "median_step", "restricted_mean", "steps_per_eureka")
                ],
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


def sweep_text(study: Study) -> str:
    """The resolved sweep: its YAML where the record has it, else the record."""
    kept: Mapping[str, Any] = {key: value for key, value in study.record.items() if key not in ("runs", "yaml")}
    return str(study.record.get("yaml", "")).strip() or json.dumps(kept, indent=1, sort_keys=True)
