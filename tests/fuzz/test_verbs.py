"""Whole commands on stores of which one file is damaged: an exit code and a line, and nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from orchestrator.cli import cli
from tests.fuzz import small_store
from tests.fuzz.archive import vary_arrays
from tests.fuzz.mutate import any_bytes
from tests.fuzz.stored import _plain, _unsealed, _untold, vary_json, vary_table

READS = (["status"], ["status", "--json"], ["events"], ["doctor"])
WRITES = (["compact"],)
KINDS = {
    "record": ("sweeps/small/sweep.json", _plain, vary_json),
    "checkpoint": ("checkpoints/*.npz", _unsealed, vary_arrays),
    "ledger": ("runs/*.parquet", _untold, vary_table),
    "curves": ("metrics/*.parquet", _untold, vary_table),
    "digests": ("digests/*.parquet", _untold, vary_table),
    "readings": ("probes/*.parquet", _untold, vary_table),
    "sealed ledger": ("runs/*.parquet", Path.read_bytes, any_bytes),
    "sealed curves": ("metrics/*.parquet", Path.read_bytes, any_bytes),
    "marker": ("eureka.json", _plain, vary_json),
}


def files(folder: Path) -> dict[str, bytes]:
    """What a user would miss: not locks, not what is remembered of detection."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.parent.name != "events"}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "empty")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_commands_on_a_damaged_store_end_in_a_line(kind: str, tmp_path: Path):
    where, seed_of, vary = KINDS[kind]
    for number in range(3):
        store = small_store.made(tmp_path / f"store {number}")
        path = sorted(store.path.glob(where))[0]
        seed = seed_of(path)
        path.write_bytes(vary(Random(f"{kind}/{number}"), seed, [seed]))
        for verb in (*READS, *WRITES):
            before = files(store.path)
            done = CliRunner().invoke(cli, [verb[0], str(store.path), *verb[1:]])
            after, said = files(store.path), f"{kind} {number} {verb}: {done.output[-500:]}"
            assert done.exception is None or isinstance(done.exception, SystemExit), f"{said}\n{done.exception!r}"
            assert done.exit_code in (0, 1, 2), said
            assert "Traceback" not in done.output, said
            assert not [name for name in after if name.endswith(".tmp")], said
            if done.exit_code == 2:
                assert len(done.stderr.splitlines()) == 1, said
            if verb in READS:
                assert after == before, said
            elif done.exit_code == 2:
                assert {name for name in before if name.startswith(("runs/", "metrics/"))} <= set(after), said
    assert os.listdir() == []
