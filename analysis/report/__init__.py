"""A report: one self-contained HTML page, a Markdown summary, and each figure as SVG with the CSV behind it.

It is a pure function of the store, the sweep and the detector: no clock, no network, no randomness, so two reports
of the same runs are the same bytes. The page needs none of the files beside it.
"""

import os
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis.detect import Detector
from analysis.estimate import config_table
from analysis.labels import words
from analysis.report import context
from analysis.report.findings import counts, finding
from analysis.store import Store
from analysis.study import Study, open_study

__all__ = ["finding", "write_report"]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=jinja2.select_autoescape(["html"]),
    trim_blocks=True,
    keep_trailing_newline=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def write_report(
    store: Store, sweep: str, out_dir: str | os.PathLike[str], *, detector: str | Detector = "contrast-1"
) -> Path:
    """Write the report of a sweep.

    Args:
        store: where the runs are.
        sweep: the sweep's name.
        out_dir: where to; made if need be. Files of an earlier report there are replaced, all others left alone.
        detector: a registered name, or a Detector.

    Returns:
        The page's path.

    Raises:
        AnalysisError: no such sweep or detector.

    Checked by: test_report.py
    """
    study = open_study(store, sweep=sweep, detector=detector)
    yaml_file = store.sweep_dir(sweep) / "sweep.yaml"
    yaml = yaml_file.read_text() if yaml_file.exists() else ""
    return write_study(study, out_dir=Path(out_dir), yaml=yaml)


def write_study(study: Study, *, out_dir: Path, yaml: str = "") -> Path:
    """Write the report of a study already open; see `write_report`."""
    table = config_table(study.events, axes=study.axes, at_step=study.horizon_steps, planned=study.planned_cells)
    figures = context.shown_figures(study)
    configs_csv, events_csv = context.csv_text(table), context.csv_text(study.events)
    values = {
        "study": study,
        "lines": finding(study, table=table),
        "tally": counts(study),
        "too_late": int((study.events["kind"] == "in_transition").sum()),
        "figures": figures,
        "rows": context.config_rows(study, table),
        "effects": context.effects(study),
        "failures": context.failures(study),
        "provenance": context.provenance(study),
        "sweep_text": context.sweep_text(study, yaml=yaml),
        "uri": context.data_uri,
        "safe_svg": Markup,
        "words": words,
        "configs_csv": configs_csv,
        "events_csv": events_csv,
    }
    for folder in ("figures", "tables"):
        (out_dir / folder).mkdir(parents=True, exist_ok=True)
    for figure in figures:
        picture = out_dir / "figures" / f"{figure.name}.svg"
        if figure.svg:
            picture.write_text(figure.svg)
        else:
            picture.unlink(missing_ok=True)
        (out_dir / "tables" / f"{figure.name}.csv").write_text(figure.csv)
    (out_dir / "tables" / "configs.csv").write_text(configs_csv)
    (out_dir / "tables" / "events.csv").write_text(events_csv)
    (out_dir / "summary.md").write_text(_TEMPLATES.get_template("summary.md").render(values))
    page = out_dir / "index.html"
    page.write_text(_TEMPLATES.get_template("page.html").render(values))
    return page
