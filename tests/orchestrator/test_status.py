from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweep_files import python

from analysis.store import Store
from orchestrator.cli import cli
from orchestrator.status import Standing, budget_steps, standing

SWEEP = """\
question: Does a run that blows up stay a row?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 16, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 60, batch: 8}
axes:
  optim.lr: [1.0e-3, 1.0e+30]
replicates: 2
"""


def counted(rows: dict[str, tuple[str, str, int | None]], *, saved: set[str] = frozenset()) -> Standing:
    names = ("status", "reason", "online_event_step")
    ledger = {run: dict(zip(names, row, strict=True)) for run, row in rows.items()}
    record = {"name": "s", "runs": ["a", "b", "c", "d", "e"]}
    return standing(record, ledger=ledger, saved=dict.fromkeys(saved, 1))


def test_every_planned_run_is_counted_once():
    rows = {"a": ("finished", "budget", 7), "b": ("diverged", "nan", None), "of another": ("failed", "x", 1)}
    found = counted(rows, saved={"a", "c"})
    assert (found.finished, found.diverged, found.failed, found.begun, found.waiting) == (1, 1, 0, 1, 2)
    assert (found.planned, found.done, found.events) == (5, 2, 1)


def test_failures_are_grouped_by_their_last_line():
    trace = "Traceback (most recent call last):\n  File x\nValueError: no\n"
    rows = {"a": ("failed", trace, None), "b": ("failed", "ValueError: no", None), "c": ("failed", "", None)}
    assert counted(rows).failures == (("ValueError: no", 2), ("no reason given", 1))


def test_progress_counts_steps_of_ended_and_of_saved_runs():
    ledger = {
        "a": {"status": "finished", "reason": "event", "online_event_step": 9, "steps": 40, "budget.steps": 100},
        "b": {"status": "failed", "reason": "x", "online_event_step": None, "steps": 0, "budget.steps": 100},
    }
    record = {"name": "s", "runs": ["a", "b", "c", "d"], "base": {"budget": {"steps": 100}}, "horizon_steps": 100}
    progress = standing(record, ledger=ledger, saved={"c": 25, "a": 30, "of another": 7}).progress
    assert (progress.steps_done, progress.steps_left) == (65, 175)  # c has 75 to go, d 100
    assert progress.share == 65 / 240
    assert (progress.is_running, progress.run_steps_per_s, progress.seconds_left) == (False, None, None)


@pytest.mark.parametrize(
    ("record", "steps"),
    [
        ({"base": {"budget": {"steps": 10}}}, 40),
        ({"base": {"budget": {"steps": 10}}, "axes": {"budget.steps": [10, 30]}}, 80),
        ({"horizon_steps": 7}, 28),
        ({"base": {"budget": 3}, "horizon_steps": 7}, 28),
        ({}, 0),
    ],
)
def test_a_plans_budget_is_that_of_its_axis_or_base(record, steps):
    assert budget_steps({"runs": ["a", "b", "c", "d"], **record}) == steps


def test_progress_of_a_running_sweep_has_its_commands_pace_and_time():
    word = {"is_lost": False, "run_steps_done": 30, "run_steps_total_estimate": 90, "run_steps_per_s": 12.5}
    record = {"name": "s", "runs": ["a", "b"], "base": {"budget": {"steps": 100}}}
    found = standing(record, ledger={}, saved={"a": 20}, word={**word, "seconds_left": 4.8}).progress
    assert (found.steps_done, found.steps_left, found.is_running) == (20, 60, True)
    assert (found.run_steps_per_s, found.seconds_left, found.share) == (12.5, 4.8, 0.25)
    early = standing(record, ledger={}, saved={}, word={**word, "run_steps_per_s": 0.0, "seconds_left": None}).progress
    assert (early.run_steps_per_s, early.seconds_left) == (None, None)
    lost = standing(record, ledger={}, saved={"a": 20}, word={**word, "is_lost": True}).progress
    assert (lost.steps_left, lost.is_running) == (180, False)
    assert standing(record, ledger={}, saved={}, word={"is_lost": False, "seconds_left": "soon"}).progress.is_running


# -- a real store -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has a sweep file, and a store that the command made of it."""
    folder = tmp_path_factory.mktemp("a folder")
    (folder / "small.yaml").write_text(SWEEP)
    arguments = ["run", "small.yaml", "--store", "a store", "--launcher", "inline", "--no-report", "--quiet"]
    found = python("-m", "orchestrator.cli", *arguments, cwd=folder)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("small: 4 runs trained in ")
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def said(*arguments: str, code: int = 0) -> str:
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == code, found.output
    return found.stdout


def test_status_counts_what_the_ledger_has():
    [record] = json.loads(said("status", "a store", "--json"))
    assert {key: record[key] for key in ("sweep", "planned", "finished", "diverged", "failed", "waiting")} == {
        "sweep": "small",
        "planned": 4,
        "finished": 2,
        "diverged": 2,
        "failed": 0,
        "waiting": 0,
    }
    assert record["detected"] == {"censored": 2, "diverged": 2}
    assert record["progress"]["share"] == 1.0
    shown = said("status", "a store")
    assert "4 of 4 (100%): 2 finished, 2 diverged, 0 failed" in shown
    assert "progress" not in shown


def unfinished(folder: Path, tmp_path: Path, **word: object) -> Path:
    """The store with a sweep of two runs more, which a command may be training."""
    store = Store(shutil.copytree(folder / "a store", tmp_path / "s"))
    record = store.sweep("small")
    store.save_sweep({**record, "runs": [*record["runs"], "0" * 16, "1" * 16]})
    if word:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "at": time.time(), "began_at": 0.0}
        (store.sweep_dir("small") / "progress.json").write_text(json.dumps({**who, **word}))
    return tmp_path / "s"


@pytest.mark.parametrize("verb", ["status", "watch"])
def test_status_and_watch_say_how_far_the_training_is(folder, tmp_path, monkeypatch, verb):
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", stop)
    store = unfinished(folder, tmp_path)
    trained = sum(store_rows(store))
    text = f"of the training: {trained:,} of at most {trained + 120:,} run-steps, no command trains it now"
    code = 0 if verb == "status" else 130
    assert text in said(verb, str(store), code=code).replace("\n", " ").replace("            ", "")
    word = {"run_steps_done": 10, "run_steps_total_estimate": 90, "run_steps_per_s": 40.0, "seconds_left": 125.0}
    running = unfinished(folder, tmp_path / "r", **word)
    assert "40 a second, about 2 min 05 s left" in " ".join(said(verb, str(running), code=code).split())


def store_rows(store: Path) -> list[int]:
    return Store(store).runs_table(columns=["run_id", "steps"])["steps"].to_pylist()


def test_json_of_a_running_sweep_has_share_rate_and_time_left(folder, tmp_path):
    word = {"run_steps_done": 10, "run_steps_total_estimate": 90, "run_steps_per_s": 40.0, "seconds_left": 2.0}
    store = unfinished(folder, tmp_path, **word)
    [record] = json.loads(said("status", str(store), "--json"))
    done = sum(store_rows(store))
    assert record["progress"] == {
        "share": round(done / (done + 80), 6),
        "steps_done": done,
        "steps_left": 80,
        "is_running": True,
        "run_steps_per_s": 40.0,
        "seconds_left": 2.0,
    }


def test_each_detector_is_asked_once_for_the_runs_of_all_sweeps(folder, tmp_path, monkeypatch):
    from orchestrator import status

    store = Store(shutil.copytree(folder / "a store", tmp_path / "s"))
    record = store.sweep("small")
    runs = record["runs"]
    store.save_sweep({**record, "name": "more", "runs": runs[:3]})
    store.save_sweep({**record, "name": "other", "runs": runs[1:2], "detector": "level-1"})
    asked, table = [], status.events_table

    def counted(*args, **options):
        asked.append((options["detector"], sorted(options["runs"])))
        return table(*args, **options)

    monkeypatch.setattr(status, "events_table", counted)
    found = {one["sweep"]: one for one in json.loads(said("status", str(store.path), "--json"))}
    assert asked == [("contrast-1", sorted(runs)), ("level-1", [runs[1]])]
    assert [sum(found[name]["detected"].values()) for name in ("small", "more", "other")] == [4, 3, 1]
    assert found["other"]["detector"] == "level-1"


def test_watch_ends_when_all_is_done():
    assert "4 of 4 (100%)" in said("watch", "a store", "--every", "0.1")


def test_store_of_the_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("EUREKA_STORE", "a store")
    assert json.loads(said("status", "--json"))[0]["planned"] == 4


def test_plan_leaves_out_what_is_stored():
    record = json.loads(said("plan", "small.yaml", "replicates=3", "--store", "a store", "--json"))
    assert (record["new"], record["already"]) == (2, 4)
    assert record["hours_at_most"] > 0


def test_plan_says_on_stderr_that_it_measures_and_prints_json_alone(tmp_path):
    found = CliRunner().invoke(cli, ["plan", "small.yaml", "--store", str(tmp_path / "none"), "--json"])
    record = json.loads(found.stdout)
    assert "timing a step of shape" in found.stderr
    assert 0.0 < record["hours_expected"] <= record["hours_at_most"]
    again = CliRunner().invoke(cli, ["plan", "small.yaml", "--store", str(tmp_path / "none"), "--json"])
    assert again.stderr == ""
    assert json.loads(again.stdout) == record


def test_plan_without_measuring_does_not_know_the_time(tmp_path):
    arguments = ["plan", "small.yaml", "--store", str(tmp_path / "none"), "--no-measure"]
    assert "unknown" in said(*arguments)
    assert json.loads(said(*arguments, "--json"))["hours_expected"] is None


def test_plan_counts_stored_runs_whatever_their_sweep_is_called():
    record = json.loads(said("plan", "small.yaml", "name=other", "--store", "a store", "--json"))
    assert (record["new"], record["already"]) == (0, 4)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_events_are_written_by_suffix(suffix: str, tmp_path):
    import polars as pl

    out = tmp_path / f"events.{suffix}"
    assert said("events", "a store", "--out", str(out)) == ""
    table = {"parquet": pl.read_parquet, "csv": pl.read_csv}[suffix](out)
    assert sorted(table["status"]) == ["censored", "censored", "diverged", "diverged"]


def test_printed_events_are_a_table_with_a_header():
    head, *rows = said("events", "a store", "--sweep", "small").splitlines()
    assert head.split("\t")[:3] == ["run_id", "config_id", "status"]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "a store", "--sweep", "smal"], "sweep: got 'smal'; expected one of small. Did you mean 'small'?"),
        (["events", "a store", "--detector", "foo"], "detector: got 'foo'; expected one of contrast-1"),
        (["events", "a store", "--out", "nowhere/events.csv"], "nowhere/events.csv: cannot be written"),
        (["report", "a store", "--out", "a store"], "a store: is there, and is no report"),
        (["rerun", "a store", "zz"], "run 'zz': no run begins so"),
        (["run", "small.yaml", "--store", "small.yaml"], "small.yaml: a file, not a store"),
    ],
)
def test_bad_request_of_a_store_is_one_line(arguments: list[str], says: str):
    found = CliRunner().invoke(cli, arguments)
    assert (found.exit_code, found.stdout, len(found.stderr.splitlines())) == (2, "", 1)
    assert says in found.stderr


def test_doctor_finds_nothing_wrong_with_a_good_store():
    assert json.loads(said("doctor", "a store", "--json"))["problems"] == []


def test_compact_says_what_it_merged():
    assert said("compact", "a store").startswith("a store: 1 blocks became 1")


def test_report_ends_with_five_lines_and_its_page(tmp_path):
    out = tmp_path / "pages"
    for _ in range(2):  # the second time it replaces its own folder
        lines = said("report", "a store", "--out", str(out)).splitlines()
    assert lines[1].startswith("4 runs planned")
    assert lines[-1] == f"Report: {out / 'index.html'}"
    assert len(lines) == 8
    assert (out / "index.html").exists()
