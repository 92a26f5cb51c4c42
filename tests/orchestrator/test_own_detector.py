"""A sweep may name who judges its events; commands may say otherwise; levels of a task's own reach the ledger."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from shown_store import add_runs, plan_runs
from sweep_files import sweep_text

from analysis.rows import runs_rows
from analysis.store import Store
from analysis.study import open_study
from orchestrator.cli import cli
from orchestrator.errors import BadRequest
from orchestrator.pulse import spec_columns
from orchestrator.serve.live import Live
from orchestrator.sweep import Sweep, sweep_from_text
from workloads.fields import column_types
from workloads.spec import resolve

OWN = "contrast-accuracy-1"


def sweep(rest: str, *overrides: str) -> Sweep:
    return sweep_from_text(sweep_text(rest), file="own.yaml", overrides=overrides)


def test_a_sweep_keeps_the_detector_that_it_names():
    assert sweep(f"detector: {OWN}\n").record()["detector"] == OWN
    assert sweep("").record()["detector"] is None
    again = sweep_from_text(sweep(f"detector: {OWN}\n").yaml)
    assert again.detector == OWN


def test_a_detector_moves_no_run_and_an_override_reaches_it():
    assert [run.run_id for run in sweep(f"detector: {OWN}\n").runs] == [run.run_id for run in sweep("").runs]
    assert sweep("", "detector=level-1").detector == "level-1"


def test_an_unknown_detector_is_refused_with_its_line_and_a_near_miss():
    with pytest.raises(BadRequest) as caught:
        sweep("detector: contrast-2\n")
    told = str(caught.value)
    assert told.startswith("own.yaml:11: detector: got 'contrast-2'; expected one of contrast-1, level-1")
    assert told.endswith("Did you mean 'contrast-1'?")
    with pytest.raises(BadRequest, match="expected one of contrast-1"):
        sweep("detector: 3\n")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One sweep that names its detector, and one that does not, of the same runs."""
    opened = Store.create(tmp_path / "a store")
    plan_runs(opened, planned=12)
    opened.save_sweep({**opened.sweep("shown"), "name": "own", "detector": OWN})
    add_runs(opened, list(range(12)))
    return opened


def test_studies_are_judged_by_the_sweeps_own_detector_unless_told(store):
    assert open_study(store, sweep="own").detector.name == OWN
    assert open_study(store, sweep="shown").detector.name == "contrast-1"
    assert open_study(store, sweep="own", detector="level-1").detector.name == "level-1"


def test_every_verb_goes_by_the_sweeps_own_detector(store, tmp_path):
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments[:1], str(store.path), *arguments[1:]])
        assert done.exit_code == 0, done.output
        return done.stdout

    standings = {one["sweep"]: one["detector"] for one in json.loads(said("status", "--json"))}
    assert standings == {"own": OWN, "shown": "contrast-1"}
    told = json.loads(said("status", "--json", "--sweep", "own", "--detector", "level-1"))
    assert [one["detector"] for one in told] == ["level-1"]
    for name, expected in (("own", OWN), ("shown", "contrast-1")):
        assert {row["detector"] for row in json.loads(said("events", "--json", "--sweep", name))} == {expected}
    assert {row["detector"] for row in json.loads(said("events", "--json"))} == {"contrast-1"}
    said("report", "--sweep", "own", "--out", str(tmp_path / "page"))
    assert f"Detector: {OWN}" in (tmp_path / "page" / "summary.md").read_text()


def test_the_live_page_goes_by_it_too(store):
    live = Live(store)
    live.start()
    try:
        shown = live.news(first_s=20.0)
        until = time.monotonic() + 20.0
        while any(seen.judged < 12 for seen in shown.values()) and time.monotonic() < until:
            shown = live.news()
    finally:
        live.stop()
    for name, expected in (("own", OWN), ("shown", "contrast-1")):
        standing, study = shown[name].standing, open_study(store, sweep=name)
        assert standing.detector == expected
        assert standing.detected == dict(study.events["status"].value_counts().iter_rows())


def test_levels_of_a_tasks_own_are_columns_of_the_ledger():
    specs = [
        resolve({"task": {"name": name}, "model": {"width": 16}, "optim": {"lr": 1e-3}, "budget": {"steps": 1}})
        for name in ("markov_chain", "two_step")
    ]
    rows = runs_rows([spec_columns(spec) for spec in specs], types=column_types(specs[0])).to_pylist()
    assert rows[0]["level.kl_plateau"] == pytest.approx(specs[0].task.kl_levels()["unigram"])
    assert rows[1]["level.kl_plateau"] is None
    assert rows[1]["level.loss_floor"] == specs[1].task.levels().loss_floor
