"""`eureka report` and `eureka export`: pages, tables, and one line for what cannot be done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweeps import small

from analysis.store import Store
from orchestrator.cli import cli
from orchestrator.run import run_sweep


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two sweeps; the second holds one run of the first's."""
    folder = tmp_path_factory.mktemp("a folder")
    run_sweep(small(folder), store_path=folder / "store", launcher="inline")
    opened = Store(folder / "store")
    record = opened.sweep("small")
    opened.save_sweep(record | {"name": "part", "runs": record["runs"][:1]})
    return folder / "store"


def said(*arguments: object) -> str:
    found = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


def refusal(*arguments: object) -> str:
    found = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert (found.exit_code, found.stdout, len(found.stderr.splitlines())) == (2, "", 1), found.output
    return found.stderr


def test_one_sweep_is_reported_beside_its_record(store: Path) -> None:
    lines = said("report", store, "--sweep", "part").splitlines()
    assert lines[-1] == f"Report: {store / 'sweeps' / 'part' / 'report' / 'index.html'}"
    assert len(lines) == 8


def test_several_sweeps_have_a_page_that_compares_them(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = said("report", store, "--sweep", "small", "--sweep", "part", "--out", out).splitlines()
    assert "2 sweeps compared" in (out / "index.html").read_text()
    assert {"small:", "part:"} <= set(lines)
    assert (out / "small" / "index.html").is_file()
    assert (out / "part" / "index.html").is_file()


def test_without_a_name_all_sweeps_are_compared_in_the_store(store: Path) -> None:
    assert said("report", store).splitlines()[-1] == f"Report: {store / 'report' / 'index.html'}"
    assert said("doctor", store)  # which minds no report in the store


def test_a_pdf_is_written_where_it_is_asked_for(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("typst")
    said("report", store, "--sweep", "part", "--out", tmp_path / "out", "--pdf")
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF")


def test_events_and_configs_are_exported_in_the_formats_named(store: Path, tmp_path: Path) -> None:
    said("export", store, "--sweep", "small", "--out", tmp_path, "--format", "csv", "--format", "latex")
    assert {path.name for path in tmp_path.iterdir()} == {"events.csv", "configs.csv", "events.tex", "configs.tex"}


def test_several_sweeps_are_exported_into_folders_of_their_names(store: Path, tmp_path: Path) -> None:
    lines = said("export", store, "--out", tmp_path).splitlines()
    assert {path.name for path in tmp_path.iterdir()} == {"small", "part"}
    assert len(lines) == 8
    assert all(Path(line).is_file() for line in lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["report", "STORE", "--sweep", "smal"],
            "sweep: got 'smal'; expected one of part, small. Did you mean 'small'?",
        ),
        (["report", "STORE", "--sweep", "small", "--sweep", "no"], "sweep: got 'no'; expected one of part, small"),
        (["report", "STORE", "--detector", "foo"], "detector: got 'foo'; expected one of contrast-1"),
        (["report", "STORE", "--out", "STORE"], "is there, and is no report"),
        (["report", "STORE", "--out", "FILE/out"], "FILE/out: cannot be written: Not a directory"),
        (["report", "EMPTY"], "holds no sweep yet"),
        (["export", "STORE"], "Missing option '--out'"),
        (["export", "STORE", "--out", "OUT", "--format", "xls"], "format: got 'xls'; expected some of csv, parquet,"),
        (["export", "STORE", "--out", "OUT", "--format", "mlflow"], "Its client reads the Parquet"),
        (["export", "STORE", "--out", "FILE"], "FILE/part: cannot be written"),
        (["export", "STORE", "--out", "OUT", "--sweep", "no"], "sweep: got 'no'; expected one of part, small"),
        (["export", "EMPTY", "--out", "OUT"], "holds no sweep yet"),
        (["export", "nowhere", "--out", "OUT"], "nowhere: no store here"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(arguments: list[str], says: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("")
    Store.create(tmp_path / "EMPTY")
    where = {"STORE": str(store)} | {name: str(tmp_path / name) for name in ("FILE", "EMPTY", "OUT", "FILE/out")}
    assert says in refusal(*(where.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [(["report", "--pdf"], "typst", "pdf"), (["export", "--format", "tensorboard"], "tensorboardX", "tensorboard")],
)
def test_a_missing_extra_is_named_before_curves_are_read(
    arguments: list[str], module: str, extra: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    verb, *options = arguments
    out = store.parent / f"no {extra}"
    assert f"pip install 'eureka[{extra}]'" in refusal(verb, store, *options, "--out", out)
    assert not out.exists()
