"""A report: one self-contained HTML page, a Markdown summary, a PDF if asked for, and each figure with its tables.

It is a pure function of the store, the sweep and the detector: no clock, no network, no randomness, so two reports
of the same runs are the same bytes. The page needs none of the files beside it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from analysis.detect import Detector
from analysis.errors import AnalysisError
from analysis.estimate import config_table
from analysis.export import write_table
from analysis.figures.stored import with_store
from analysis.labels import words
from analysis.report import context, document, manifest
from analysis.report.comparison import write_comparison
from analysis.report.findings import counts, finding
from analysis.report.templates import TEMPLATES
from analysis.store import Store
from analysis.study import Study, open_study

__all__ = ["finding", "write_comparison", "write_report", "write_studies", "write_study"]


def write_report(
    store: Store,
    sweep: str | Sequence[str],
    out_dir: str | os.PathLike[str],
    *,
    detector: str | Detector | None = None,
    pdf: bool = False,
) -> Path:
    """Write the report of a sweep, or of several and a page that compares them.

    What an earlier report in the folder has already drawn from the same events and code is not drawn again.

    Args:
        store: where the runs are.
        sweep: the sweep's name; of several, each gets a folder of its own below `out_dir`.
        out_dir: where to; made if need be. Files of an earlier report there are replaced, all others left alone.
        detector: a registered name, or a Detector; each sweep's own unless given.
        pdf: also write report.pdf, and each figure as PDF (extra `pdf`).

    Returns:
        The page's path.

    Raises:
        AnalysisError: no such sweep or detector; no sweep named; `pdf` without the extra.

    Checked by: test_report.py
    """
    if pdf:
        document.require()
    names = [sweep] if isinstance(sweep, str) else list(dict.fromkeys(sweep))
    studies = [open_study(store, sweep=name, detector=detector) for name in names]
    return write_studies(studies, out_dir=Path(out_dir), store=store, pdf=pdf)


def write_studies(studies: Sequence[Study], *, out_dir: Path, store: Store | None = None, pdf: bool = False) -> Path:
    """Write the report of studies already open; see `write_report`."""
    if not studies:
        raise AnalysisError("report: sweep: got none; expected a sweep's name, or several")
    if len(studies) == 1:
        return write_study(studies[0], out_dir=out_dir, store=store, pdf=pdf)
    for study in studies:
        write_study(study, out_dir=out_dir / study.name, store=store, pdf=pdf)
    return write_comparison(studies, out_dir=out_dir)


def write_study(study: Study, *, out_dir: Path, store: Store | None = None, pdf: bool = False) -> Path:
    """Write the report of a study already open; see `write_report`.

    With the store, metrics other than the detector's come from its digests; without, from the study's curves.
    """
    if pdf:
        document.require()
    study = with_store(study, store)
    table = config_table(study.events, axes=study.settings, at_step=study.horizon_steps, planned=study.planned_cells)
    table = context.with_accuracy(study, table)
    for folder in ("figures", "tables"):
        (out_dir / folder).mkdir(parents=True, exist_ok=True)
    for name, frame in (("configs", table), ("events", study.events)):
        for suffix in ("csv", "parquet", "tex"):
            write_table(frame, out_dir / "tables" / f"{name}.{suffix}", title=f"{study.name}: {name}")
    inputs = manifest.input_hashes(study)
    figures, entries = context.shown_figures(study, out_dir=out_dir, inputs=inputs, pdf=pdf)
    values = {
        "study": study,
        "lines": finding(study, table=table),
        "tally": counts(study),
        "too_late": int((study.events["kind"] == "in_transition").sum()),
        "figures": [figure for figure in figures if figure.svg],
        "absent": [figure for figure in figures if not figure.svg],
        "rows": context.config_rows(study, table),
        "counted": [word for word, name in context.WAYS.items() if table.height and table[name].sum()],
        "effects": context.effects(study),
        "failures": context.failures(study),
        "provenance": context.provenance(study),
        "sweep_text": context.sweep_text(study),
        "uri": context.data_uri,
        "safe_svg": Markup,
        "words": words,
        "configs_csv": (out_dir / "tables" / "configs.csv").read_text(),
        "events_csv": (out_dir / "tables" / "events.csv").read_text(),
    }
    (out_dir / "summary.md").write_text(TEMPLATES.get_template("summary.md").render(values))
    (out_dir / manifest.NAME).write_text(manifest.manifest(study, inputs=inputs, figures=entries))
    page = out_dir / "index.html"
    page.write_text(TEMPLATES.get_template("page.html").render(values))
    if pdf:
        document.write(values, out_dir=out_dir)
    return page
