"""The one way from a sweep to a plan: what `eureka plan` shows is what `eureka run` trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweep_files import python
from sweeps import small

from analysis.checkpoints import Checkpoints
from analysis.store import Store
from orchestrator import planner
from orchestrator.cli import cli
from orchestrator.errors import BadRequest
from orchestrator.outlook import DEFAULT_WIDTH
from orchestrator.planner import Means, chosen_device, foresee, learn, means_of, plan_sweep
from orchestrator.progress import ProgressView
from orchestrator.pulse import Pulse
from orchestrator.queue import CohortQueue
from orchestrator.rates import known_rates
from orchestrator.remembered import recall
from orchestrator.run import Tally, run_sweep


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Widths that were measured; every step takes a millisecond, less in company."""
    calls: list[tuple[int, ...]] = []

    def rates(spec: object, *, widths: tuple[int, ...], device: str, seconds: float) -> dict[int, float]:
        calls.append(tuple(widths))
        return {width: 1e-3 + 1e-2 / width for width in widths}

    monkeypatch.setattr(planner, "measured_rates", rates)
    return calls


LONG = ("replicates=64", "base.budget.steps=2000")


def test_running_trains_the_plan_that_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, given = small(tmp_path, "replicates=9"), []
    init = CohortQueue.__init__

    def noting(self: CohortQueue, **settings: object) -> None:
        given.extend(settings["cohorts"])
        init(self, **settings)

    monkeypatch.setattr(CohortQueue, "__init__", noting)
    arguments = [str(tmp_path / "small.yaml"), "replicates=9", "--store", str(tmp_path / "store")]
    arguments += ["--launcher", "inline", "--width", "3"]
    shown = json.loads(CliRunner().invoke(cli, ["plan", *arguments, "--no-measure", "--json"]).stdout)
    assert CliRunner().invoke(cli, ["run", *arguments, "--no-report", "--quiet"]).exit_code == 0
    assert [cohort.cohort_id for cohort in given] == [cohort["cohort_id"] for cohort in shown["cohorts"]]
    assert len(given) > 1
    assert Store(tmp_path / "store").statuses().keys() == {run.run_id for run in sweep.runs}


def test_saved_runs_are_planned_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, store = small(tmp_path), Store.create(tmp_path / "store")
    last = sweep.runs[-1].run_id
    monkeypatch.setattr(Checkpoints, "furthest", lambda self: {last: (Path("x"), 3)})
    plan = plan_sweep(sweep, store=store, means=Means(width=2))
    assert plan.cohorts[0].members[0].run_id == last


def test_the_driver_of_a_sweep_needs_no_torch() -> None:
    code = (
        "import orchestrator.cli, orchestrator.planner, orchestrator.run, orchestrator.tune, sys; print(*sys.modules)"
    )
    assert "torch" not in python("-c", code).stdout.split()


# -- what is measured ---------------------------------------------------------------------------


def test_a_long_shape_is_measured_at_several_widths(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    outlook = foresee(small(tmp_path, *LONG).runs, ledger=None, means=Means(measures="long"))
    assert measured == [(4, 8, 16, 32)]
    assert set(outlook.widths.values()) == {32}


def test_a_short_sweep_is_run_without_measuring(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    outlook = foresee(small(tmp_path).runs, ledger=None, means=Means(measures="long"))
    assert measured == []
    assert set(outlook.widths.values()) == {DEFAULT_WIDTH["cpu"]}


def test_a_plan_times_short_shapes_too_at_the_width_they_get(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    outlook = foresee(small(tmp_path).runs, ledger=None, means=Means(measures="all"))
    assert measured == [(6,)]
    assert len(outlook.seconds_per_run_step) == 1


def test_the_users_width_wins(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    outlook = foresee(small(tmp_path, *LONG).runs, ledger=None, means=Means(measures="long", width=5))
    assert measured == [(5,)]
    assert set(outlook.widths.values()) == {5}


def test_nothing_is_measured_where_it_was_asked_not_to(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    outlook = foresee(small(tmp_path, *LONG).runs, ledger=None, means=Means(measures="none"))
    assert measured == []
    assert outlook.seconds_per_run_step == {}


def test_what_is_remembered_is_not_measured_again(
    tmp_path: Path, measured: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {4: 3.0, 8: 1.0, 16: 1.0, 32: None}
    monkeypatch.setattr(planner, "known_rates", lambda spec, *, device: dict(known))
    outlook = foresee(small(tmp_path, *LONG).runs, ledger=None, means=Means(measures="all"))
    assert measured == []
    assert set(outlook.widths.values()) == {8}


def test_a_cluster_is_not_judged_by_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    means = means_of(device="cpu", workers=2, launcher="ray", width=None, measures="all")
    assert means.measures == "none"


def test_many_shapes_take_no_longer_than_the_bound(
    tmp_path: Path, measured: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "MEASURES_S", 0.0)
    runs = small(tmp_path, "axes.model.width=[8,16,24]").runs
    assert foresee(runs, ledger=None, means=Means(measures="all")).seconds_per_run_step == {}
    assert measured == []


def test_the_ledgers_rates_count_for_more_than_a_measurement(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline")
    store = Store(tmp_path / "store")
    plan = plan_sweep(small(tmp_path, "replicates=5"), store=store, means=Means(measures="all"))
    table = store.runs_table()
    real = sum(table["seconds"].to_pylist()) / sum(table["steps"].to_pylist())
    assert list(plan.outlook.seconds_per_run_step.values()) == [pytest.approx(real)]


# -- what is learned ----------------------------------------------------------------------------


def test_a_sweep_teaches_how_long_start_up_takes(tmp_path: Path) -> None:
    sweep, means = small(tmp_path), Means(launcher="inline")
    before = foresee(sweep.runs, ledger=None, means=means).startup_s
    plan = plan_sweep(sweep, store=None, means=means)
    for _ in range(20):
        learn(plan, means=means, startup_s=1.7, ledger=None)
    after = foresee(sweep.runs, ledger=None, means=means).startup_s
    assert before != pytest.approx(1.7)
    assert after == pytest.approx(1.7, rel=0.01)


def test_one_wild_sweep_teaches_little(tmp_path: Path) -> None:
    sweep, means = small(tmp_path), Means(launcher="inline")
    before = foresee(sweep.runs, ledger=None, means=means).startup_s
    learn(plan_sweep(sweep, store=None, means=means), means=means, startup_s=1e6, ledger=None)
    assert foresee(sweep.runs, ledger=None, means=means).startup_s <= 2.0 * before


def test_a_sweep_on_a_busy_machine_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "was_calm", False)
    run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline")
    assert recall("startup_s") == {}


@pytest.mark.parametrize(("cpu_s", "is_calm"), [(9.5, True), (4.0, False)])
def test_a_machine_is_calm_where_workers_had_their_processors(tmp_path: Path, cpu_s: float, is_calm: bool) -> None:
    plan = plan_sweep(small(tmp_path), store=None, means=Means())
    queue = CohortQueue(store=Store.create(tmp_path / "store"), sweep="small", cohorts=plan.cohorts, settings={})
    tally = Tally(plan, ProgressView(quiet=True))
    tally.watch(queue)
    queue.pulses["a"] = Pulse(cohort="a", seconds=10.0, cpu_s=cpu_s)
    assert tally.was_calm is is_calm


def test_running_leaves_its_start_up_in_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "was_calm", True)
    run_sweep(small(tmp_path), store_path=tmp_path / "store", launcher="inline")
    assert len(recall("startup_s")) == 1
    assert known_rates(small(tmp_path).runs[0], device="cpu") == {}, "a sweep of a second measures nothing"


# -- the device ---------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadRequest, match="torch sees none here"):
        chosen_device("cuda")
    assert chosen_device("auto") == "cpu"
    with pytest.raises(BadRequest, match="expected one of auto, cpu, cuda"):
        chosen_device("tpu")
