"""What running a search promises: every trial and every run once, whoever trains, however often it is begun."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from searches import TEXT, search_text, small_search
from views import Interrupting

from analysis.store import Store
from analysis.upkeep import check, compact
from orchestrator.cli import cli
from orchestrator.errors import BadRequest, OrchestratorError
from orchestrator.run import RunOutcome, run_sweep
from orchestrator.search import sampled
from orchestrator.status import standings
from orchestrator.sweep import Sweep
from workloads.tasks import Declared


def search(sweep: Sweep, store: Path, **more: Any) -> RunOutcome:
    return run_sweep(sweep, store_path=store, **{"launcher": "inline", **more})


def trials(store: Path, sweep: str = "small") -> list[dict[str, Any]]:
    table = Store(store).trials(sweep)
    assert table is not None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def runs(store: Path) -> Counter[str]:
    return Counter(Store(store).runs_table(columns=["run_id", "config_id"])["config_id"].to_pylist())


def test_a_search_tells_every_trial_once_and_trains_its_runs(tmp_path: Path) -> None:
    sweep = small_search(tmp_path)
    outcome = search(sweep, tmp_path / "store")
    assert (outcome.trained, outcome.interrupted) == (12, False)
    assert outcome.trials == {"complete": 6, "failed": 0, "running": 0, "warm": 0}
    rows = trials(tmp_path / "store")
    assert [row["trial"] for row in rows] == list(range(6))
    assert {(row["state"], row["runs"], row["round"]) for row in rows} == {("complete", 2, 1), ("complete", 2, 2)}
    assert runs(tmp_path / "store") == Counter({row["config_id"]: 2 for row in rows})
    record = Store(tmp_path / "store").sweep("small")
    assert (len(record["runs"]), record["open"], record["axes"]) == (12, False, {})
    assert record["search"]["space"]["model.width"] == {"values": [2, 4]}
    assert check(Store(tmp_path / "store")) == []


def test_what_is_told_is_what_the_ledger_says(tmp_path: Path) -> None:
    search(small_search(tmp_path), tmp_path / "store")
    columns = ["run_id", "config_id", "online_event_step"]
    ledger = Store(tmp_path / "store").runs_table(columns=columns).to_pylist()
    for row in trials(tmp_path / "store"):
        steps = [run["online_event_step"] for run in ledger if run["config_id"] == row["config_id"]]
        events = sum(step is not None and step <= 50 for step in steps)
        assert row["value:p_eureka"] == (events + 0.5) / 3
        assert row["low:p_eureka"] <= row["value:p_eureka"] <= row["high:p_eureka"]


def test_the_same_search_again_asks_nothing_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    search(small_search(tmp_path), tmp_path / "store")
    before = trials(tmp_path / "store")
    again = search(small_search(tmp_path), tmp_path / "store")
    assert (again.trained, again.already, again.interrupted) == (0, 12, False)
    more = search(small_search(tmp_path, "search.configs=8"), tmp_path / "store")
    assert (more.trained, more.already) == (4, 12)
    after = trials(tmp_path / "store")
    assert [row["config_id"] for row in after[:6]] == [row["config_id"] for row in before]
    assert len({row["config_id"] for row in after}) == 8


def test_ray_and_inline_train_the_same_first_batch(tmp_path: Path) -> None:
    sweep = small_search(tmp_path, "search.configs=4", "search.batch=4")
    search(sweep, tmp_path / "inline")
    outcome = search(sweep, tmp_path / "ray", launcher="ray", workers=2)
    assert outcome.trained == 8
    one, other = trials(tmp_path / "inline"), trials(tmp_path / "ray")
    for name in ("config_id", "value:p_eureka", "param:optim.lr", "state"):
        assert [row[name] for row in one] == [row[name] for row in other]


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    sweep = small_search(tmp_path)
    view = Interrupting()
    first = search(sweep, tmp_path / "store", view=view, width=1)
    assert first.interrupted
    assert Store(tmp_path / "store").sweep("small")["open"]
    second = search(sweep, tmp_path / "store")
    assert not second.interrupted
    assert first.trained + second.trained == 12
    assert Counter(row["state"] for row in trials(tmp_path / "store")) == {"complete": 6}
    assert set(runs(tmp_path / "store").values()) == {2}


def test_a_config_that_is_asked_twice_is_trained_once(tmp_path: Path) -> None:
    text = search_text("""\
  name: random
  space: {model.width: [2], optim.lr: [1.0e-3, 1.0e-2]}
  objective: rmst
  configs: 8""")
    outcome = search(small_search(tmp_path, text=text), tmp_path / "store")
    assert (outcome.trained, outcome.trials["complete"]) == (4, 8)  # type: ignore[index]
    assert len({row["config_id"] for row in trials(tmp_path / "store")}) == 2


def test_a_search_without_end_ends_when_every_point_was_asked(tmp_path: Path) -> None:
    text = search_text("""\
  name: random
  space: {model.width: [2], optim.lr: [1.0e-3, 1.0e-2]}
  objective: rmst
  hours: 100""")
    outcome = search(small_search(tmp_path, text=text), tmp_path / "store")
    assert (outcome.trained, outcome.interrupted) == (4, False)


def test_brute_force_ends_with_its_space(tmp_path: Path) -> None:
    text = search_text("  name: brute_force\n  space: {model.width: [2, 4], optim.lr: [0.1, 0.01]}\n  objective: rmst")
    outcome = search(small_search(tmp_path, text=text), tmp_path / "store")
    assert (outcome.trained, outcome.trials["complete"]) == (8, 4)  # type: ignore[index]


def test_a_budget_of_run_steps_is_never_exceeded(tmp_path: Path) -> None:
    text = search_text("""\
  name: random
  space: {optim.lr: {log_range: [1.0e-5, 1.0e-1]}}
  objective: [final_loss, run_steps]
  batch: 2
  run_steps: 1000""")
    outcome = search(small_search(tmp_path, text=text), tmp_path / "store")
    steps = sum(Store(tmp_path / "store").runs_table(columns=["run_id", "steps"])["steps"].to_pylist())
    assert 1000 - 120 < steps <= 1000  # what is left would not do for another config of 2 runs
    assert outcome.trained >= 16


def test_values_that_make_no_run_fail_at_once_and_the_search_goes_on(tmp_path: Path) -> None:
    # the ends of the range make runs, its middle does not
    text = TEXT.replace('median_steps: "20"', "median_steps: 20 * (log10(optim.lr) + 3)**2 - 10")
    outcome = search(small_search(tmp_path, "search.configs=5", text=text), tmp_path / "store")
    rows = trials(tmp_path / "store")
    assert Counter(row["state"] for row in rows)["complete"] == 5
    failed = [row for row in rows if row["state"] == "failed"]
    assert failed
    assert all(row["reason"].startswith("makes no run: ") and row["config_id"] == "" for row in failed)
    assert (outcome.trained, outcome.failed) == (10, 0)


def test_a_failed_run_is_told_over_the_others_and_only_failures_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world_of = Declared.world_of

    def broken(self, spec, rng):
        if spec.model.width == 2 or spec.seed.data == 1:
            raise ValueError("this world cannot be made")
        return world_of(self, spec, rng)

    monkeypatch.setattr(Declared, "world_of", broken)
    outcome = search(small_search(tmp_path), tmp_path / "store")
    by_width = {row["param:model.width"]: row for row in trials(tmp_path / "store")}
    assert (by_width[2]["state"], by_width[2]["reason"], by_width[2]["value:p_eureka"]) == (
        "failed",
        "every run failed",
        None,
    )
    assert (by_width[4]["state"], by_width[4]["runs"]) == ("complete", 2)
    assert by_width[4]["value:p_eureka"] in (0.25, 0.75)  # of one run
    assert outcome.failed > 0
    assert not outcome.interrupted


def test_a_diverged_runs_loss_fails_the_trial_and_its_probability_does_not(tmp_path: Path) -> None:
    text = TEXT.replace('median_steps: "20"', 'median_steps: "20"\n    diverges: "1"')
    search(small_search(tmp_path, "search.objective=final_loss", text=text), tmp_path / "loss")
    assert {(row["state"], row["reason"]) for row in trials(tmp_path / "loss")} == {
        ("failed", "final_loss is not finite")
    }
    search(small_search(tmp_path, text=text), tmp_path / "chance")
    assert {(row["state"], row["events"]) for row in trials(tmp_path / "chance")} == {("complete", 0)}


def test_final_losses_are_read_from_the_curves_also_after_they_were_merged(tmp_path: Path) -> None:
    sweep = small_search(tmp_path, "search.objective=final_loss")
    search(sweep, tmp_path / "store")
    first = {row["config_id"]: row["value:final_loss"] for row in trials(tmp_path / "store")}
    assert min(first.values()) < 0.6  # behind its event
    assert max(first.values()) > 0.9  # without one
    compact(Store(tmp_path / "store"))
    warm = small_search(
        tmp_path, "search.objective=final_loss", "search.warm_start=true", "search.configs=1", name="warm"
    )
    search(warm, tmp_path / "store")
    told = {row["config_id"]: row["value:final_loss"] for row in trials(tmp_path / "store", "warm") if row["warm"]}
    assert told == first


def test_a_warm_start_tells_what_any_sweep_has_stored_and_asks_on(tmp_path: Path) -> None:
    store = tmp_path / "store"
    grid = (
        TEXT[: TEXT.index("search:\n")]
        + "axes: {optim.lr: [1.0e-3, 1.0], model.width: [2, 4, 8], optim.beta1: [0.9, 0.5]}\n"
    )
    run_sweep(
        small_search(tmp_path, name="grid", text=grid + TEXT[TEXT.index("replicates:") :]),
        store_path=store,
        launcher="inline",
    )
    sweep = small_search(tmp_path, "search.warm_start=true", "search.configs=3")
    outcome = search(sweep, store)
    assert outcome.trials == {
        "complete": 3,
        "failed": 0,
        "running": 0,
        "warm": 2,
    }  # one rate, two widths, and the base's own beta1
    warm = [row for row in trials(store) if row["warm"]]
    assert {(row["param:optim.lr"], row["param:model.width"]) for row in warm} == {
        (r, w) for r in (1e-3,) for w in (2, 4)
    }
    assert all(row["runs"] == 2 and row["round"] == 0 for row in warm)
    again = search(sweep, store)
    assert (again.trained, again.trials) == (0, outcome.trials)


def test_constraints_and_several_objectives_are_told_to_the_study(tmp_path: Path) -> None:
    text = search_text("""\
  name: nsga2
  space: {optim.lr: {log_range: [1.0e-5, 1.0e-1]}}
  objective: [p_eureka, run_steps]
  constraints: [{rmst: {by_step: 50}, at_most: 45}]
  configs: 4""")
    outcome = search(small_search(tmp_path, text=text), tmp_path / "store")
    assert "beaten by none in every objective" in outcome.told[0]
    rows = trials(tmp_path / "store")
    assert {"value:p_eureka", "value:run_steps", "value:rmst", "low:rmst"} <= rows[0].keys()
    journal = (tmp_path / "store" / "sweeps" / "small" / "study.journal").read_text()
    told = [json.loads(line) for line in journal.splitlines()]
    excess = [v for one in told for k, v in one.get("system_attr", {}).items() if "rmst <= 45" in k]
    assert sorted(excess) == sorted(row["value:rmst"] - 45 for row in rows)


def test_a_strategy_of_our_own_goes_on_after_an_interrupt_as_if_there_had_been_none(tmp_path: Path) -> None:
    text = search_text("""\
  name: replicates
  space: {model.width: [2, 4], optim.lr: [1.0e-3, 1.0e-1]}
  objective: p_eureka
  options: {width: 0.6, first: 4, each: 4, most: 12}""")
    sweep = small_search(tmp_path, text=text)
    search(sweep, tmp_path / "whole")
    first = search(sweep, tmp_path / "store", view=Interrupting(), width=1)
    second = search(sweep, tmp_path / "store")
    assert first.interrupted
    assert not second.interrupted
    assert runs(tmp_path / "store") == runs(tmp_path / "whole")
    assert len(runs(tmp_path / "store")) == 4
    assert max(runs(tmp_path / "store").values()) > 4  # some were looked at more than once
    told = sum(row["runs"] for row in trials(tmp_path / "store"))
    assert told == first.trained + second.trained == runs(tmp_path / "store").total()


def test_plan_says_what_a_search_may_cost_and_status_what_it_has_asked(tmp_path: Path) -> None:
    small_search(tmp_path)
    arguments = [str(tmp_path / "small.yaml"), "--store", str(tmp_path / "store")]
    told = CliRunner().invoke(cli, ["plan", *arguments, "--no-measure", "--json"])
    record = json.loads(told.stdout)
    assert (record["trials_at_most"], record["runs_at_most"], record["run_steps_at_most"]) == (6, 12, 720)
    shown = CliRunner().invoke(cli, ["plan", *arguments, "--no-measure"]).stdout
    assert "at most 6 trials × 2 replicates = 12 runs" in shown
    ran = CliRunner().invoke(cli, ["run", *arguments, "--launcher", "inline", "--no-report"])
    assert ran.exit_code == 0
    assert "small: 6 trials told, 12 runs trained" in ran.stdout
    assert "best p_eureka: " in ran.stdout
    assert "6/6 trials, 12/12 runs" in ran.stderr
    standing = standings(Store(tmp_path / "store"), names=["small"])[0]
    assert (standing.planned, standing.done) == (12, 12)
    after = json.loads(CliRunner().invoke(cli, ["plan", *arguments, "--no-measure", "--json"]).stdout)
    assert (after["trials_at_most"], after["trials"]["complete"]) == (0, 6)


def test_failed_trials_are_told_and_are_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"--retry-failed: a search has told its failed trials"):
        search(small_search(tmp_path), tmp_path / "store", retry_failed=True)


def test_a_search_is_not_shared_between_commands(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"a search is driven by one command; give it more workers"):
        search(small_search(tmp_path), tmp_path / "store", is_shared=True)


def test_a_space_that_makes_no_runs_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "MOST_MISFITS", 5)
    text = TEXT.replace('median_steps: "20"', "median_steps: 1 - 1e12 * (optim.lr - 1e-5) * (0.1 - optim.lr)")
    with pytest.raises(
        OrchestratorError, match=r"5 points in a row make no run; the last: makes no run: .*median_steps"
    ):
        search(small_search(tmp_path, text=text), tmp_path / "store")


def test_a_boundary_that_comes_back_to_a_point_spends_its_budget_on_it(tmp_path: Path) -> None:
    text = search_text("""\
  name: boundary
  space: {optim.lr: {log_range: [1.0e-5, 1.0e-1]}}
  objective: {p_eureka: {by_step: 50}}
  configs: 28
  batch: 4
  options: {start: 8}""").replace("3 - 4 * (log10(optim.lr) + 3)**2", "200 * (log10(optim.lr) + 3)")
    outcome = search(small_search(tmp_path, "replicates=1", text=text), tmp_path / "store")
    rows = trials(tmp_path / "store")
    assert (len(rows), outcome.trained) == (28, 28)  # a point that comes again has seeds of its own
    assert len({row["config_id"] for row in rows}) < 28


def test_a_boundary_begins_with_the_points_that_are_stored(tmp_path: Path) -> None:
    store, head = tmp_path / "store", TEXT[: TEXT.index("search:\n")].replace("4 * (log10", "20 * (log10")
    axes = "axes: {optim.lr: {log_range: [1.0e-5, 1.0e-1], points: 12}}"
    grid = f"{head}{axes}\nreplicates: 1\nstop: {{after_event_steps: 5}}\n"
    run_sweep(small_search(tmp_path, name="grid", text=grid), store_path=store, launcher="inline")
    line = """\
  name: boundary
  space: {optim.lr: {log_range: [1.0e-5, 1.0e-1]}}
  objective: {p_eureka: {by_step: 50}}
  configs: 6
  options: {start: 8}
  warm_start: true"""
    text = search_text(line).replace("4 * (log10", "20 * (log10")
    sweep = small_search(tmp_path, "replicates=1", text=text)
    outcome = search(sweep, store)
    assert outcome.trials == {"complete": 6, "failed": 0, "running": 0, "warm": 12}
    search(sweep, tmp_path / "cold")
    asked, cold = (
        {row["param:optim.lr"] for row in trials(at) if not row["warm"]} for at in (store, tmp_path / "cold")
    )
    assert len(asked & cold) <= 1  # who knows nothing begins with an even spread
    again = search(sweep, store)
    assert (again.trained, again.trials) == (0, outcome.trials)


def test_seeds_that_are_stored_need_no_warm_start(tmp_path: Path) -> None:
    text = search_text("""\
  name: replicates
  space: {optim.lr: [1.0e-3, 1.0e-2]}
  objective: {p_eureka: {by_step: 50}}
  warm_start: true""")
    with pytest.raises(BadRequest, match=r"small.yaml:\d+: search.warm_start: got true; expected false"):
        small_search(tmp_path, text=text)
