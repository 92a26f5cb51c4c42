"""A report of a sweep whose every text means harm: what a parser sees must be our own page, and nothing of theirs."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

import pytest
from demo import demo_store, simulate

from analysis.export import export
from analysis.report import document, write_report
from analysis.store import Store
from analysis.study import open_study

EVIL = (
    "</title><script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "' onmouseover='alert(1)",
    "</style></script><svg onload=alert(1)>",
    "<!--",
    "]]><iframe src=javascript:alert(1)>",
    "{{ 7 * 7 }}{% include 'page.css' %}",
    "$\\undefinedmacro{$",
    '#read("/etc/passwd")',
    "\\input{/etc/passwd}",
    "| a | b\n\n# c",
)
NAMES = ("task.name", "optim.name")


class Seen(html.parser.HTMLParser):
    """Tags by number, attributes that act, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.acting: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            is_link = name in ("href", "src", "xlink:href", "action", "srcdoc")
            if name.startswith("on") or (
                is_link and not re.match(r"#|data:(text/csv|image/png)|figures/|tables/|summary", value or "")
            ):
                self.acting.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def page_of(path: Path) -> Seen:
    seen = Seen()
    seen.feed(path.read_text())
    seen.close()
    return seen


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Evil in the question, in two axes' values, in reasons of failure, in provenance, in the resolved file."""
    axes = {"task.name": [EVIL[0], EVIL[1]], "optim.name": [EVIL[7], EVIL[2]]}
    runs, _, record = simulate(axes, replicates=3, outcomes="eecd", steps=800)
    assert set(NAMES) <= set(runs.columns)
    made = demo_store(tmp_path_factory.mktemp("store"), axes, replicates=3, outcomes="ecdf", steps=800)
    text = "\n".join(EVIL)
    made.save_sweep(record | {"question": text, "yaml": f"question: {text}", "base": {"task": {"name": EVIL[3]}}})
    return made


@pytest.fixture(scope="module")
def folder(store, tmp_path_factory) -> Path:
    return write_report(store, "softness", tmp_path_factory.mktemp("report")).parent


def test_page_holds_no_tag_and_no_deed_of_a_sweeps_texts(folder):
    seen = page_of(folder / "index.html")
    assert seen.acting == []
    assert seen.tags["script"] == 1
    assert seen.tags["style"] >= 1
    assert not {"iframe", "object", "embed", "form", "base", "link"} & set(seen.tags)
    said = " ".join(" ".join(seen.said).split())
    for evil in EVIL[:7]:
        assert " ".join(evil.split()) in said, f"{evil} is to be read, as text"
    assert "{{ 7 * 7 }}" in said


def test_figures_hold_no_tag_of_a_sweeps_texts(folder):
    figures = sorted((folder / "figures").glob("*.svg"))
    assert len(figures) > 2
    for path in figures:
        seen = page_of(path)
        assert not {"script", "img", "iframe", "foreignobject"} & set(seen.tags), path
        assert not [deed for deed in seen.acting if " on" in deed], path
        assert "mathdefault" not in path.read_text(), "a formula that matplotlib wrote, and nobody sets"


def test_markdown_holds_no_tag_of_a_sweeps_texts(folder):
    text = (folder / "summary.md").read_text()
    assert not re.search(r"<(?!!?\w*br)[a-zA-Z/!]", text)
    assert "\n# c" not in text


def test_typst_and_latex_read_a_sweeps_texts_as_text(store, folder, tmp_path):
    values = {
        "study": open_study(store, sweep="softness"), "lines": [EVIL[8]], "figures": [], "rows": [],
        "provenance": [("host", EVIL[8])],
    }  # fmt: skip
    source = document.source_text(values, root=folder)
    assert '#read("/etc' not in source.replace('\\"', "'")
    export(values["study"], tmp_path, formats=("latex",))
    for path in tmp_path.glob("*.tex"):
        assert "\\undefinedmacro" not in path.read_text()
        assert "\\input{" not in path.read_text()
