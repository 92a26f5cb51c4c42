"""The report as a PDF, set by Typst, which needs neither LaTeX nor a browser (extra `pdf`)."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError

NAME = "report.pdf"
WIDEST, TALLEST = 481.0, 480.0  # of a figure, on a page that has room for its heading and caption [points]
MOST_ROWS = 60  # of the table of configs; the whole table is beside the page
_TOP = """#set document(date: none)
#set page(paper: "a4", margin: 2cm, numbering: "1")
#set text(size: 9.5pt)
#set par(justify: true)
#show figure: set block(breakable: false)
#show figure.caption: set text(size: 8pt)
#show figure.caption: set align(left)
"""


def require() -> Any:
    """The Typst compiler.

    Raises:
        AnalysisError: it is not installed.
    """
    try:
        return import_module("typst")
    except ImportError:
        raise AnalysisError("report: pdf: typst is not installed. pip install 'eureka[pdf]'") from None


def write(values: Mapping[str, Any], *, out_dir: Path) -> Path:
    """Write report.pdf from the values of the page; figures are taken from `figures/*.pdf`."""
    path = out_dir / NAME
    source = source_text(values, root=out_dir)
    try:
        path.write_bytes(require().compile(source.encode(), root=str(out_dir), format="pdf"))
    except RuntimeError as error:
        raise AnalysisError(f"report: pdf: Typst: {str(error).splitlines()[0]}") from None
    return path


def source_text(values: Mapping[str, Any], *, root: Path) -> str:
    """The document in Typst's language; every text is a string literal, so nothing in a sweep is read as markup."""
    study = values["study"]
    parts = [_TOP, f"#heading(level: 1, {_text(study.question or study.name)})"]
    parts += [f"- #{_text(line)}" for line in values["lines"]]
    for figure in values["figures"]:
        parts.append(f"#heading(level: 2, {_text(figure.title)})")
        picture = f"image({_text(f'/figures/{figure.name}.pdf')}, width: {_width(root, figure.name):.0f}pt)"
        parts.append(f"#figure({picture}, caption: {_text(figure.caption)}, numbering: none, outlined: false)")
    if values["rows"]:
        parts += ['#heading(level: 2, "Every config")', _table(study, values["rows"])]
    parts.append('#heading(level: 2, "Where this comes from")')
    parts += [f"/ #{_text(name)}: #{_text(text)}" for name, text in values["provenance"]]
    return "\n\n".join(parts) + "\n"


def _width(root: Path, name: str) -> float:
    """A figure's own width, so that words are as large in all figures, or what keeps it on its page [points]."""
    head = (root / "figures" / f"{name}.svg").read_text()[:400]
    _, _, width, height = map(float, head.partition('viewBox="')[2].partition('"')[0].split())
    return width * min(1.0, WIDEST / width, TALLEST / height)


def _table(study: Any, rows: Any) -> str:
    header = [*study.settings, "eureka / n", "P(eureka)", "half by step", "steps per eureka"]
    cells = [f"table.header({', '.join(_text(name) for name in header)})"]
    for row in rows[:MOST_ROWS]:
        counts = f"{row['counts'][1]}/{row['counts'][0]}"
        cells += [_text(text) for text in (*row["settings"], counts, row["chance"], row["median"], row["cost"])]
    more = len(rows) - MOST_ROWS
    note = f"\n\n#{_text(f'{more:,} more configs are in tables/configs.csv.')}" if more > 0 else ""
    body = ", ".join(cells)
    return f"#text(size: 7pt, table(columns: {len(header)}, stroke: 0.3pt + gray, inset: 3pt, {body})){note}"


def _text(text: object) -> str:
    """A Typst string literal."""
    return json.dumps(" ".join(str(text).split()), ensure_ascii=False)
