"""`eureka probe`: what is asked, what is stored, that nothing is computed twice, and one line for what cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from sweeps import small

from analysis.store import Store
from orchestrator import probe as module
from orchestrator import probe_spec
from orchestrator.cli import cli
from orchestrator.run import run_sweep
from orchestrator.shipped import find_sweep
from orchestrator.sweep import load_sweep
from workloads.probing.ask import check

KEEPS = "log.snapshots=[0,20,end]"
INTERVENTIONS = """
interventions:
  - {name: plain}
  - {name: ablate_heads, how: uniform, heads: "0.0, 0.1"}
  - {name: stitch, with_step: end, parts: attention}
"""
WHOLE = f"runs: {{sweep: small}}\nsteps: [first, 20, end]\nexamples: 16\n{INTERVENTIONS}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with six runs and three snapshots of each."""
    folder = tmp_path_factory.mktemp("trained")
    run_sweep(small(folder, KEEPS), store_path=folder / "store", launcher="inline")
    return folder / "store"


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Path:
    """The same runs, not probed yet."""
    copy = Store.create(tmp_path / "store").path
    for part in ("runs", "sweeps", "snapshots"):
        (copy / part).rmdir() if (copy / part).exists() else None
        (copy / part).symlink_to(trained / part)
    return copy


def probed(store: Path, text: str, *arguments: str) -> Result:
    file = store.parent / "probe.yaml"
    file.write_text(text)
    return CliRunner().invoke(cli, ["probe", str(store), str(file), *arguments])


def refusal(store: Path, text: str) -> str:
    """The one line of a request that is refused, which leaves nothing behind."""
    before = Store(store).probes.known()
    found = probed(store, text)
    assert (found.exit_code, found.stdout) == (2, "")
    assert Store(store).probes.known() == before
    [line] = found.stderr.splitlines()
    return line.removeprefix("eureka: ")


def test_a_file_is_answered_in_full_and_the_second_time_from_the_store(store: Path, monkeypatch: pytest.MonkeyPatch):
    first = probed(store, WHOLE, "--json")
    assert first.exit_code == 0, first.stderr
    assert "54 probes computed, 0 were stored" in first.stderr  # 6 runs, 3 snapshots, 3 interventions
    table = Store(store).probes.table()
    monkeypatch.setattr(module, "asked", lambda *_, **__: pytest.fail("computed again"))
    again = probed(store, WHOLE, "--json")
    assert "0 probes computed, 54 were stored" in again.stderr
    assert again.stdout == first.stdout
    assert Store(store).probes.table().equals(table)
    rows = json.loads(first.stdout)
    assert {(row["intervention"], row["at"]) for row in rows} == {
        (name, at) for name in ("plain", "ablate_heads", "stitch") for at in ("first", "20", "end")
    }
    assert all(row["runs"] == 6 and row["lo"] <= row["mean"] <= row["hi"] for row in rows)


def test_an_interrupted_probe_goes_on_with_the_same_readings(store: Path, monkeypatch: pytest.MonkeyPatch):
    whole = probed(store, WHOLE, "--json").stdout
    for path in sorted((store / "probes").iterdir())[1:]:
        path.unlink()
    monkeypatch.setattr(module, "AT_ONCE", 1)  # in other company, too
    again = probed(store, WHOLE, "--json")
    assert 0 < int(again.stderr.rpartition(" probes computed")[0].split()[-1]) < 54
    assert again.stdout == whole


def test_files_share_what_they_have_in_common(store: Path):
    probed(store, WHOLE)
    more = WHOLE.replace('heads: "0.0, 0.1"', "heads: each")
    assert "18 probes computed, 36 were stored" in probed(store, more).stderr
    assert "54 probes computed" in probed(store, WHOLE.replace("examples: 16", "examples: 17")).stderr


def test_stitching_the_end_with_itself_gives_the_plain_scores(store: Path):
    rows = json.loads(probed(store, WHOLE, "--json").stdout)
    at_end = {(row["intervention"], row["item"], row["metric"]): row["mean"] for row in rows if row["at"] == "end"}
    for item in ("parts of own", "parts of other"):
        assert at_end["stitch", item, "loss"] == at_end["plain", "", "loss"]


def test_steps_that_differ_between_runs_are_called_as_the_file_calls_them(store: Path):
    rows = json.loads(probed(store, WHOLE, "--json").stdout)
    assert {row["options"] for row in rows if row["intervention"] == "stitch"} == {
        '{"parts":"attention","with_step":"end"}'
    }


def test_runs_are_chosen_by_id_or_by_setting(store: Path):
    ids = sorted(Store(store).statuses())
    one = probed(store, f'runs: {{ids: "{ids[0][:8]} {ids[1]}"}}\nsteps: [20]\n{INTERVENTIONS}', "--json")
    assert {row["runs"] for row in json.loads(one.stdout)} == {2}
    where = WHOLE.replace("{sweep: small}", "{sweep: small, where: {optim.lr: 0.01}}")
    assert {row["runs"] for row in json.loads(probed(store, where, "--json").stdout)} == {3}


def test_every_runs_readings_can_be_written(store: Path, tmp_path: Path):
    out = tmp_path / "readings.csv"
    assert probed(store, WHOLE, "--out", str(out)).exit_code == 0
    found = pl.read_csv(out)
    assert found["run_id"].n_unique() == 6
    assert {"at", "run_id", "step", "metric", "value"} <= set(found.columns)
    assert probed(store, WHOLE, "--out", "readings.txt").exit_code == 2


def test_before_is_well_before_the_event_and_leaves_out_runs_without_one():
    kept = (0, 100, 150, 200)
    assert module.Source(None, 210, kept).step("before") == 150  # type: ignore[arg-type]
    assert module.Source(None, 200, kept).step("before") == 150  # type: ignore[arg-type]
    assert module.Source(None, None, kept).step("before") is None  # type: ignore[arg-type]
    assert module.Source(None, 100, (90, 100)).step("before") is None  # type: ignore[arg-type]


def test_a_request_without_any_event_is_refused(store: Path):
    said = refusal(store, WHOLE.replace("first, 20, end", "before"))
    assert said.startswith("steps: got no run with a snapshot before its event")


FAULTS = [
    ("steps: [first", "steps: [21", ": got no snapshot after 21 updates; there are: 0, 20, 60. Its spec asks for them"),
    ("steps: [first", "steps: [frist", "probe.yaml:2: steps.0: got 'frist'; expected updates made, or first, before"),
    ("{sweep: small}", "{sweep: smal}", "no sweep named 'smal'; there are: small"),
    ("{sweep: small}", "{ids: ffff}", "run 'ffff': no run begins so"),
    ("{sweep: small}", "{}", "probe.yaml:1: runs: got an empty mapping; expected either sweep or ids"),
    ("{sweep: small}", "{sweep: small, where: {optim.l: 1}}", "runs.where: got 'optim.l'; expected fields of a run"),
    ("{sweep: small}", "{sweep: small, where: {optim.lr: 7}}", "no trained run with what `where` asks for"),
    ("name: plain", "name: plane", "got 'plane'; expected one of plain, attention, .* Did you mean 'plain'"),
    ("how: uniform", "how: evenly", "probe.yaml:7: interventions.1.how: got 'evenly'; expected 'mean' or 'uniform'"),
    ("how: uniform", "hwo: uniform", "interventions.1.hwo: got an unknown key; .* Did you mean 'how'"),
    ("heads: \"0.0", "heads: \"0.7", "ablate_heads: run .* expected heads from 0.0 to 0.1; got '0.7'"),
    ("name: plain", "name: substitute", "substitute: run .* expected a task with missing entries; got two_step"),
    ("name: plain", "name: plain, task: {n_targets: 9}", "task: got n_targets; expected settings that leave the shape"),
    ("examples: 16", "examples: 0", "probe.yaml:3: examples: got 0; expected greater than or equal to 1"),
    ("examples: 16", "example: 16", "probe.yaml:3: example: got an unknown key; .* Did you mean 'examples'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_a_wrong_file_is_refused_in_one_line_before_anything_is_computed(store: Path, old: str, new: str, message: str):
    assert old in WHOLE
    assert re.search(message, said := refusal(store, WHOLE.replace(old, new))), said


def test_a_missing_store_or_file_is_told(store: Path, tmp_path: Path):
    for arguments in (
        [str(tmp_path / "nowhere"), str(tmp_path / "probe.yaml")],
        [str(store), str(tmp_path / "no.yaml")],
    ):
        found = CliRunner().invoke(cli, ["probe", *arguments])
        assert found.exit_code == 2
        assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", sorted(path.stem for path in probe_spec.FOLDER.glob("*.yaml")))
def test_shipped_probes_suit_the_runs_of_their_sweeps(name: str):
    asks = probe_spec.load_probe(Path(name))
    assert asks.runs.sweep is not None
    for run in load_sweep(find_sweep(asks.runs.sweep)).runs[:1]:
        for intervention in asks.interventions:
            check(intervention, run)
