"""`eureka doctor` finds what is damaged, repairs it, and the next run trains what was lost to the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sweeps import TEXT
from tables import as_bytes, values

from analysis.store import Store
from orchestrator.cli import cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of six runs in three blocks and its store."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(TEXT)
    assert run(folder).exit_code == 0
    assert len(Store(folder / "store").blocks()) > 1
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "copy")


def run(folder: Path) -> Result:
    options = ["--launcher", "inline", "--width", "2", "--no-report", "--quiet"]
    return CliRunner().invoke(cli, ["run", str(folder / "small.yaml"), "--store", str(folder / "store"), *options])


def doctor(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", str(folder / "store"), *options])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


def test_a_whole_store_has_no_problem_and_all_its_checksums(folder: Path) -> None:
    result = doctor(folder, "--json")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["problems"], record["notes"], record["mended"]) == (0, [], [], [])
    blocks = len(Store(folder / "store").blocks())
    assert (record["runs"], record["blocks"]) == (6, blocks)
    expected = {"runs": blocks, "metrics": blocks, "digests": blocks, "sweeps/small": 1}
    assert record["files"] == {"verified": expected, "unverified": {}}


def test_a_repaired_sweep_ends_with_the_same_bits(folder: Path) -> None:
    runs, metrics = values(folder / "store")
    store = Store(folder / "store")
    first, second, *_ = store.blocks()
    flip(Path(str(store.metrics_path(first))))
    flip(Path(str(store.runs_path(second))))
    found = doctor(folder)
    assert found.exit_code == 1
    assert found.stdout.count("problem: ") == 2
    mended = doctor(folder, "--repair")
    assert (mended.exit_code, mended.stdout.count("repair: took ")) == (0, 2)
    assert "note: damaged/ holds 6 files" in mended.stdout
    assert doctor(folder).exit_code == 0
    assert run(folder).exit_code == 0
    runs_now, metrics_now = values(folder / "store")
    assert as_bytes(runs_now) == as_bytes(runs)
    assert as_bytes(metrics_now) == as_bytes(metrics)
    assert doctor(folder).exit_code == 0


def test_a_dry_run_changes_nothing_and_says_that_something_is_wrong(folder: Path) -> None:
    store = Store(folder / "store")
    flip(Path(str(store.metrics_path(store.blocks()[0]))))
    before = {path: path.read_bytes() for path in (folder / "store").rglob("*") if path.is_file()}
    result = doctor(folder, "--repair", "--dry-run")
    assert result.exit_code == 1
    assert "would have: took " in result.stdout
    assert {path: path.read_bytes() for path in (folder / "store").rglob("*") if path.is_file()} == before


def test_damage_stops_a_run_in_one_line_that_names_the_doctor(folder: Path) -> None:
    store = Store(folder / "store")
    flip(Path(str(store.runs_path(store.blocks()[0]))))
    result = run(folder)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "not readable" in result.stderr
    assert "eureka doctor" in result.stderr


def test_a_damaged_marker_is_told_and_repaired(folder: Path) -> None:
    flip(folder / "store" / "eureka.json")
    result = doctor(folder)
    assert result.exit_code == 1
    assert "nothing else can be checked before it is mended" in result.stdout
    assert doctor(folder, "--repair").exit_code == 0
    assert doctor(folder).exit_code == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--dry-run"], "--dry-run: says what --repair would do"), (["--repair"], "no store here, and nothing to repair")],
)
def test_what_cannot_be_repaired_is_a_wrong_request(tmp_path: Path, options: list[str], expected: str) -> None:
    result = doctor(tmp_path, *options)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_old_store_is_readable_and_said_to_be_unverified(folder: Path) -> None:
    import pyarrow.parquet as pq

    store = Store(folder / "store")
    runs, metrics = values(folder / "store")
    (folder / "store" / "eureka.json").write_text('{"schema_version": 1}')
    for block in store.blocks():
        for path in (store.runs_path(block), store.metrics_path(block), store.digest_path(block)):
            pq.write_table(pq.read_table(str(path)), str(path))
    result = doctor(folder)
    assert result.exit_code == 0
    assert "note: unverified: files of before there were checksums: " in result.stdout
    assert CliRunner().invoke(cli, ["compact", str(folder / "store")]).exit_code == 0
    assert "unverified" not in doctor(folder).stdout
    runs_now, metrics_now = values(folder / "store")
    assert as_bytes(runs_now) == as_bytes(runs)
    assert as_bytes(metrics_now) == as_bytes(metrics)
