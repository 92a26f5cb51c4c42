"""Forks of a whole sweep: matched by seed, found again in a store, and refused where no run would be meant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sweeps import TEXT, small

from analysis.store import Store
from orchestrator.errors import BadRequest
from orchestrator.run import run_sweep
from orchestrator.sweep import Sweep, load_sweep
from workloads.spec import resolve


@pytest.fixture(autouse=True)
def sources(tmp_path: Path) -> Sweep:
    """The sweep that others start from."""
    return small(tmp_path)


START = "start_from: {sweep: PLACE/small.yaml, step: 20, where: {optim.lr: 0.001}}"


def forks(
    folder: Path, start: str = START, *, axes: str = "trainable.only: [embed, attention]", more: str = ""
) -> Sweep:
    """A sweep whose replicates start from those of `small`."""
    lines = TEXT.replace("optim.lr: [1.0e-3, 1.0e-2]", axes)
    lines = lines.replace("\naxes:", f"\n  {start.replace('PLACE', str(folder))}\naxes:") + more
    path = folder / "forks.yaml"
    path.write_text(lines)
    return load_sweep(path)


def test_each_replicate_starts_from_the_run_with_its_seeds(tmp_path: Path):
    sources = {(run.seed, run.optim.lr): run.run_id for run in small(tmp_path).runs}
    sweep = forks(tmp_path)
    assert len(sweep.runs) == 6
    for run in sweep.runs:
        assert run.start_from is not None
        assert (run.start_from.run, run.start_from.step) == (sources[run.seed, 0.001], 20)


def test_replicates_are_counted_from_each_sweeps_own_seeds(tmp_path: Path):
    small(tmp_path, "base.seed.data=5")
    sources = load_sweep(tmp_path / "small.yaml", overrides=["base.seed.data=5"])
    (tmp_path / "small.yaml").write_text(sources.yaml)
    by_data = {run.seed.data: run.run_id for run in sources.runs if run.optim.lr == 0.001}
    for run in forks(tmp_path, f"{START}\n  seed: {{init: 1000}}").runs:
        assert run.start_from is not None
        assert run.start_from.run == by_data[5 + run.seed.data]
        assert run.seed.init == 1000 + run.seed.data


def test_a_forks_identity_is_that_of_a_plain_run_and_step(tmp_path: Path):
    one = forks(tmp_path).runs[3]
    assert one.start_from is not None
    plain = forks(tmp_path, f"start_from: {{run: {one.start_from.run}, step: 20}}")
    assert (
        one.run_id == next(run for run in plain.runs if (run.seed, run.trainable) == (one.seed, one.trainable)).run_id
    )
    assert one.shape_key == plain.runs[0].shape_key


def test_the_stored_file_gives_the_same_runs(tmp_path: Path):
    sweep = forks(tmp_path)
    again = tmp_path / "again.yaml"
    again.write_text(sweep.yaml)
    assert [run.run_id for run in load_sweep(again).runs] == [run.run_id for run in sweep.runs]
    assert "small.yaml" in sweep.record()["base"]["start_from"]["sweep"]


def test_parts_drawn_afresh_can_go_with_the_parts_that_train(tmp_path: Path):
    axes = '"trainable.only, start_from.fresh": [[embed, embed], [attention, attention]]'
    sweep = forks(tmp_path, axes=axes)
    assert {(run.trainable.only, run.start_from.fresh) for run in sweep.runs} == {  # type: ignore[union-attr]
        ("embed", "embed"),
        ("attention", "attention"),
    }


def test_forks_of_a_sweep_train_from_its_snapshots(tmp_path: Path):
    sources = small(tmp_path, "log.snapshots=[20]")
    (tmp_path / "small.yaml").write_text(sources.yaml)
    for sweep in (sources, forks(tmp_path)):
        run_sweep(sweep, store_path=tmp_path / "store", launcher="inline")
    rows = Store(tmp_path / "store").runs_table(["run_id", "status", "start_from.run", "seed.init"]).to_pylist()
    of_forks = [row for row in rows if row["start_from.run"]]
    assert {row["status"] for row in rows} == {"finished"}
    assert len({(row["start_from.run"], row["seed.init"]) for row in of_forks}) == 3


def test_the_end_is_a_step_where_nothing_stops_a_run_early(tmp_path: Path):
    small(tmp_path)
    end = START.replace("step: 20", "step: end")
    assert {run.start_from.step for run in forks(tmp_path, end).runs} == {60}  # type: ignore[union-attr]
    (tmp_path / "small.yaml").write_text(TEXT + "stop: {after_event_steps: 5}\n")
    with pytest.raises(BadRequest, match=r"step: got 'end', but runs of .* end at steps of their own"):
        forks(tmp_path, end)


FAULTS = [
    ({"start": START.replace(", where: {optim.lr: 0.001}", "")}, "start_from.sweep: .* has several configs; say which"),
    ({"start": START.replace("0.001", "7")}, "start_from.where: got values that no run of"),
    ({"start": START.replace("optim.lr", "optim.l")}, r"start_from.where: got 'optim.l'; expected fields"),
    ({"start": START.replace("small.yaml", "smal.yaml")}, "no such file"),
    ({"start": START.replace("PLACE/small.yaml", "quickstrat")}, "Did you mean 'quickstart'"),
    ({"start": START.replace("PLACE/small.yaml", "[a]")}, "start_from.sweep: got a list; expected a file"),
    ({"start": START.replace("small.yaml", "forks.yaml")}, "start_from.sweep: got the sweep itself"),
    (
        {"start": START.replace("step: 20", "step: 20, run: 00ff")},
        "start_from.run: got 'run'; .* Give a run or a sweep",
    ),
    ({"start": START.replace("step: 20", "stp: 20")}, "start_from.stp: got 'stp'; .* Did you mean 'step'"),
    ({"start": START.replace("step: 20", "step: soon")}, "start_from.step: got 'soon'; expected an integer"),
    ({"axes": "start_from.run: [00, 01]"}, "axes.start_from.run: base.start_from.sweep says which run"),
    ({"more": "replicates: 4\n"}, r"got no replicate with seeds init \+3, data \+3; it has 3; lower"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS)
def test_forks_that_name_no_run_are_refused_in_one_line(tmp_path: Path, changes: dict[str, str], message: str):
    small(tmp_path)
    if "more" in changes:
        (tmp_path / "small.yaml").write_text(TEXT)
        changes = {"start": START}
        text = forks(tmp_path, **changes).yaml.replace("replicates: 3", "replicates: 4")
        (tmp_path / "forks.yaml").write_text(text)
        with pytest.raises(BadRequest, match=message) as caught:
            load_sweep(tmp_path / "forks.yaml")
    else:
        with pytest.raises(BadRequest, match=message) as caught:
            forks(tmp_path, **changes)
    said = str(caught.value)
    assert "\n" not in said
    assert re.match(r".*forks\.yaml:\d+: |.*: no such file|SWEEP: ", said), said


def test_sweeps_that_start_from_each_other_are_told(tmp_path: Path):
    small(tmp_path)
    forks(tmp_path)
    text = (tmp_path / "forks.yaml").read_text()
    (tmp_path / "small.yaml").write_text(text.replace("small.yaml", "forks.yaml"))
    with pytest.raises(BadRequest, match="starts, in the end, from itself"):
        load_sweep(tmp_path / "forks.yaml")


def test_forks_have_the_ids_of_their_own_source_not_of_the_first(tmp_path: Path):
    runs = forks(tmp_path).runs
    again = [resolve(json.loads(run.model_dump_json())) for run in runs]
    assert [(run.run_id, run.config_id, run.shape_key) for run in runs] == [
        (run.run_id, run.config_id, run.shape_key) for run in again
    ]
    assert len({run.run_id for run in runs}) == len(runs)
