"""Reports: whole, self-contained, safe to open, the same bytes each time, and never a traceback."""

import base64
import gzip
import html.parser
import inspect
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import polars as pl
import pytest
from demo import demo_store, demo_study, simulate

from analysis.detectors import DETECTORS
from analysis.errors import AnalysisError
from analysis.figures import FIGURES
from analysis.report import context, document, write_report, write_study
from analysis.report.findings import WIDEST, counts, finding
from analysis.study import open_study, study_of

LR = {"optim.lr": [1e-4, 1e-3]}
SHOWN = {figure.NAME for figure in FIGURES} - {"progress", "growth"}  # which need measures that the demo has not
EVIL = 'Does <script>alert("x")</script> & a | pipe survive?'


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return demo_store(tmp_path_factory.mktemp("store"), question=EVIL)


@pytest.fixture(scope="module")
def page(store, tmp_path_factory):
    return write_report(store, "softness", tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(page):
    return page.read_text()


def test_page_asks_for_nothing_outside_itself(text):
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"'<>\s)]*", text)) <= namespaces
    assert not re.search(r"<(link|iframe|img|object)\b|<script [^>]*src|@import|url\((?!#)", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|WebSocket|sendBeacon)\s*\(", text)


def test_strings_of_the_sweep_are_escaped(text, page):
    assert text.count("<script") == 1  # our own, which holds nothing of the sweep
    assert "alert(&#34;x&#34;)" in text
    assert "&lt;script&gt;alert" in text
    assert "<script" not in (page.parent / "summary.md").read_text()


def test_tags_open_and_close(text):
    class Checker(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in {"meta", "br"}:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(text)
    assert checker.open == []


def test_ids_are_unique(text):
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_two_reports_of_one_store_are_the_same_bytes(store, page, tmp_path):
    write_report(store, "softness", tmp_path)
    mine = {path.relative_to(page.parent): path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert mine == again


def test_embedded_data_are_the_files_beside(text, page):
    links = re.findall(r'download="([^"]*)" href="data:[^;]*;base64,([^"]*)"', text)
    assert {name.split(".")[0] for name, _ in links} == {*SHOWN, "configs", "events"}
    for name, data in links:
        raw = base64.b64decode(data)
        raw = gzip.decompress(raw) if name.endswith(".gz") else raw
        assert raw == (page.parent / "tables" / f"{name.split('.')[0]}.csv").read_bytes()


def test_linked_files_exist(text, page):
    links = [link for link in re.findall(r'href="([^"]*)"', text) if not link.startswith(("data:", "#"))]
    assert links
    assert all((page.parent / link).is_file() for link in links)


def test_every_planned_run_is_in_the_pages_counts(text):
    shown = {word: int(n) for n, word in re.findall(r"<li><b>(\d+)</b> ([a-z ]+)</li>", text)}
    assert sum(shown.values()) == 96
    assert shown["waiting or running"] == 5
    assert shown["failed"] == 2


def test_falls_too_late_to_confirm_are_stated(tmp_path):
    study = demo_study(LR, replicates=2, outcomes="c")
    late = study.events.with_columns(kind=pl.lit("in_transition"))
    text = write_study(replace(study, events=late), out_dir=tmp_path).read_text()
    assert "4 of the 4 stopped without one were falling when they ended" in text
    assert "4 of the 4 censored runs were falling" in (tmp_path / "summary.md").read_text()


def test_captions_say_n_censoring_and_detector(text):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, flags=re.S)
    assert len(captions) == len(SHOWN)
    for caption in captions:
        assert "n = 89 runs" in caption
        assert "37 censored" in caption
        assert "Detector contrast-1" in caption


def test_events_csv_holds_every_ended_run(page):
    table = pl.read_csv(page.parent / "tables" / "events.csv")
    assert table.height == 91
    assert (table["status"] == "failed").sum() == 2


def test_summary_has_a_row_a_config(page):
    lines = (page.parent / "summary.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 13
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


def test_provenance_names_what_made_the_runs(text):
    for words in (
        "Detector(name=&#39;contrast-1&#39;",
        "store schema",
        "eureka&#34;: &#34;0.1",
        "replicates: 8",
        "the online rule",
    ):
        assert words in text


def test_no_clock_is_read(text):
    assert not re.search(r"\b20\d\d-\d\d-\d\d", text)


THIN = {
    "one run": ({}, {"replicates": 1, "outcomes": "e"}),
    "one config": ({}, {"replicates": 6, "outcomes": "ecd"}),
    "an axis of one level": ({"optim.lr": [1e-3]}, {"replicates": 3, "outcomes": "ec"}),
    "no event": (LR, {"replicates": 2, "outcomes": "c"}),
    "all diverged": (LR, {"replicates": 2, "outcomes": "d"}),
    "all failed": (LR, {"replicates": 2, "outcomes": "f"}),
    "no run": (LR, {"replicates": 2, "lost": 4, "failed": 0}),
    "three axes": (
        {**LR, "optim.weight_decay": [0.0, 0.1], "model.layers": [1, 2]},
        {"replicates": 1, "outcomes": "ecd"},
    ),
}


@pytest.mark.parametrize("thin", THIN)
def test_thin_stores_give_a_page_and_five_lines(thin, tmp_path):
    axes, options = THIN[thin]
    store = demo_store(tmp_path / "store", axes, **options)
    page = write_report(store, "softness", tmp_path / "out")
    assert page.read_text().rstrip().endswith("</html>")
    lines = finding(open_study(store, sweep="softness"))
    assert len(lines) == 5
    assert all(0 < len(line) <= WIDEST for line in lines)


def test_pooled_axes_are_named(tmp_path):
    axes, options = THIN["three axes"]
    text = write_report(demo_store(tmp_path / "store", axes, **options), "softness", tmp_path / "out").read_text()
    assert "pool over model.layers" in text
    assert "Pooled over model.layers." in text


def test_finding_is_five_lines_with_interval_and_n():
    lines = finding(demo_study())
    assert len(lines) == 5
    assert all(len(line) <= WIDEST for line in lines)
    counted = "47 eureka, 1 gradual, 37 censored, 4 diverged, 2 failed, 5 waiting"
    assert lines[0] == f"96 runs planned in 12 configs: {counted}"
    assert all(re.search(r"\[\d.*\] n=\d", line) for line in lines[1:])


def test_equal_configs_are_not_ranked():
    lines = finding(demo_study(LR, replicates=3, outcomes="c"))
    assert lines[2].startswith("Highest: none, all 2 configs are at 0.00 [0.00, 0.56]")


def test_ties_are_counted():
    lines = finding(demo_study({"optim.lr": [1e-4, 1e-3, 1e-2]}, replicates=1, outcomes="eec"))
    assert "n=1 (and 1 more) at lr" in lines[2]


def test_long_settings_are_cut_and_estimates_are_not():
    axes = {f"model.some_rather_long_setting_{i}": [1, 2] for i in range(3)} | LR
    lines = finding(demo_study(axes, replicates=1, outcomes="ec"))
    assert lines[2].endswith("…")
    assert re.match(r"Highest: 1\.00 \[0\.21, 1\.00\] n=1 \(and \d+ more\) at ", lines[2])


def test_counts_cover_the_plan():
    study = demo_study()
    assert sum(counts(study).values()) == study.planned


def test_an_unknown_sweep_is_one_line(store, tmp_path):
    with pytest.raises(AnalysisError, match="no sweep named 'nothing'; there are: softness") as caught:
        write_report(store, "nothing", tmp_path)
    assert "\n" not in str(caught.value)


def test_importing_the_store_loads_no_polars_or_matplotlib():
    heavy = "('polars', 'matplotlib', 'scipy', 'jinja2')"
    code = f"import sys, analysis.store, analysis.schema; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names_are_all_there():
    import analysis

    assert sorted(analysis.__all__) == sorted(analysis._HOME)
    # a module of the same name would hide a function once it is imported
    assert not any(inspect.ismodule(getattr(analysis, name)) for name in analysis.__all__)


def test_figures_without_data_are_left_out_and_named(tmp_path):
    study = demo_study(LR, replicates=2, outcomes="c")
    page = write_study(study, out_dir=tmp_path).read_text()
    for name in ("wait_map", "aligned", "abruptness", "cost", "surface", "progress", "growth"):
        assert f'<h2 id="{name}">' not in page
        assert not (tmp_path / "figures" / f"{name}.svg").exists()
    assert "No run had a eureka-moment, so there is nothing to align." in page


def test_a_second_report_reads_back_what_has_not_changed(store, page, tmp_path, monkeypatch):
    shutil.copytree(page.parent, tmp_path / "out")
    monkeypatch.setattr(context, "_made", lambda figure, **_: pytest.fail(f"{figure.NAME} was drawn again"))
    assert write_report(store, "softness", tmp_path / "out").read_bytes() == page.read_bytes()


def test_a_changed_run_draws_its_figures_again(tmp_path):
    study = demo_study(LR, replicates=2, outcomes="e")
    before = write_study(study, out_dir=tmp_path).read_text()
    fewer = replace(study, events=study.events.with_columns(status=pl.lit("censored"), kind=pl.lit("none")))
    after = write_study(fewer, out_dir=tmp_path).read_text()
    assert 'id="aligned"' in before
    assert 'id="aligned"' not in after
    assert not (tmp_path / "figures" / "aligned.svg").exists()


def test_manifest_says_what_the_report_was_made_from(page):
    found = json.loads((page.parent / "manifest.json").read_text())
    assert found["detector"]["name"] == "contrast-1"
    assert set(found["inputs"]) == {"events", "runs", "sweep"}
    assert {"polars", "matplotlib"} <= set(found["versions"])
    assert {name for name, entry in found["figures"].items() if entry["is_shown"]} == SHOWN


def test_tables_come_as_csv_parquet_and_latex(page):
    for name in (*SHOWN, "configs", "events"):
        frames = [page.parent / "tables" / f"{name}.{suffix}" for suffix in ("csv", "parquet", "tex")]
        assert pl.read_parquet(frames[1]).height == pl.read_csv(frames[0], infer_schema_length=None).height > 0
        assert r"\begin{tabular}" in frames[2].read_text()


def test_configs_have_the_fields_own_columns(page):
    table = pl.read_csv(page.parent / "tables" / "configs.csv")
    assert {"accuracy", "eureka", "n", "chance", "median_step", "steps_per_eureka"} <= set(table.columns)
    assert table["accuracy"].is_between(0, 1).all()


def test_several_sweeps_are_set_side_by_side(tmp_path):
    store = demo_store(tmp_path / "store", LR, replicates=2, outcomes="ec")
    record = store.sweep("softness")
    store.save_sweep(record | {"name": "half", "runs": record["runs"][:2], "question": "And a <b>half</b>?"})
    page = write_report(store, ["softness", "half"], tmp_path / "out")
    text = page.read_text()
    assert "2 sweeps compared" in text
    assert "2 runs stand in more than one sweep" in text
    assert "&lt;b&gt;half" in text
    assert (tmp_path / "out" / "half" / "index.html").is_file()
    table = pl.read_csv(tmp_path / "out" / "tables" / "sweeps.csv")
    assert dict(table.select("sweep", "n").iter_rows()) == {"softness": 4, "half": 2}


def test_a_comparison_is_the_same_bytes_each_time_and_heads_its_page_alike(tmp_path):
    store = demo_store(tmp_path / "store", LR, replicates=2, outcomes="ec")
    store.save_sweep(store.sweep("softness") | {"name": "again"})
    pages = [write_report(store, ["softness", "again"], tmp_path / name) for name in ("one", "two")]
    one, two = (
        {path.relative_to(page.parent): path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
        for page in pages
    )
    assert one == two
    heads = [re.sub(r"<title>.*?</title>", "", path.read_text().partition("<main>")[0], flags=re.S)
             for path in (pages[0], pages[0].parent / "again" / "index.html")]  # fmt: skip
    assert heads[0] == heads[1] != ""


def test_a_metric_that_no_run_has_is_one_line(tmp_path):
    runs, metrics, record = simulate(LR, replicates=1, outcomes="e")
    with pytest.raises(AnalysisError, match="metric: got 'accuracy'; expected one of") as caught:
        study_of(runs, metrics=metrics.drop("accuracy").lazy(), record=record, detector=DETECTORS["level-accuracy-1"])
    assert "\n" not in str(caught.value)


def test_ways_to_end_that_no_run_took_have_no_column(page, text, tmp_path):
    heads = re.findall(r"<th>(gradual|without|diverged|failed|waiting)</th>", text)
    assert heads == ["gradual", "without", "diverged", "failed", "waiting"]
    plain = write_study(demo_study(LR, replicates=2, outcomes="e"), out_dir=tmp_path).read_text()
    assert not re.search(r"<th>(gradual|without|diverged|failed|waiting)</th>", plain)


def test_a_long_table_of_configs_scrolls_in_its_own_box(text, tmp_path):
    axes = {"optim.lr": [1e-4 * 1.1**i for i in range(41)]}
    many = write_study(demo_study(axes, replicates=1, steps=400, outcomes="c"), out_dir=tmp_path).read_text()
    assert '<div class="wide tall"' in many
    assert '<div class="wide tall"' not in text


def test_a_second_pdf_draws_nothing_again(tmp_path, monkeypatch):
    pytest.importorskip("typst")
    study = demo_study(LR, replicates=2, outcomes="c")
    write_study(study, out_dir=tmp_path, pdf=True)
    before = (tmp_path / "report.pdf").read_bytes()
    monkeypatch.setattr(context, "_made", lambda figure, **_: pytest.fail(f"{figure.NAME} was drawn again"))
    write_study(study, out_dir=tmp_path, pdf=True)
    assert (tmp_path / "report.pdf").read_bytes() == before


def test_figures_of_a_pdf_keep_their_own_size_and_fit_the_page(tmp_path):
    for name, box in (("small", "200 100"), ("wide", "962 300"), ("tall", "400 960")):
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / f"{name}.svg").write_text(f'<svg viewBox="0 0 {box}">')
    found = [document._width(tmp_path, name) for name in ("small", "wide", "tall")]
    assert found == [200, document.WIDEST, 400 * document.TALLEST / 960]


def test_no_sweep_named_is_one_line(store, tmp_path):
    with pytest.raises(AnalysisError, match="report: sweep: got none"):
        write_report(store, [], tmp_path)


def test_a_pdf_is_the_same_bytes_each_time(tmp_path):
    pytest.importorskip("typst")
    study = demo_study(LR, replicates=2, outcomes="c")
    for folder in ("one", "two"):
        write_study(study, out_dir=tmp_path / folder, pdf=True)
    one, two = ((tmp_path / folder / "report.pdf").read_bytes() for folder in ("one", "two"))
    assert one.startswith(b"%PDF")
    assert one == two
    assert (tmp_path / "one" / "figures" / "timing.pdf").read_bytes().startswith(b"%PDF")


def test_a_pdf_without_typst_names_the_extra(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(AnalysisError, match=r"typst is not installed. pip install 'eureka\[pdf\]'"):
        write_report(store, "softness", tmp_path / "out", pdf=True)
    assert not (tmp_path / "out").exists()


def test_a_store_without_accuracy_still_has_its_report(tmp_path):
    study = demo_study(LR, replicates=2, outcomes="ec")
    page = write_study(replace(study, metrics=study.metrics.drop("accuracy")), out_dir=tmp_path)
    assert "<td>–</td>" in page.read_text()


def test_csv_round_trips():
    from analysis.export import csv_text

    table = pl.DataFrame({"a": [0.1234567891, None], "b": ["x,y", "–"]})
    assert pl.read_csv(io.StringIO(csv_text(table)))["b"].to_list() == ["x,y", "–"]
