from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_files import sweep_text

from orchestrator.plan import (
    MOST_MEMBERS,
    CohortPlan,
    cohort_id,
    estimate_hours,
    interval_width,
    make_plan,
    pack,
    seconds_per_run_step,
)
from orchestrator.sweep import Sweep, sweep_from_text

TWO_SHAPES = """
axes:
  model.width: [16, 32]
  optim.lr: [1.0e-4, 1.0e-3, 1.0e-2]
replicates: 4
"""


def sweep(rest: str = TWO_SHAPES) -> Sweep:
    return sweep_from_text(sweep_text(rest))


def members(cohorts: tuple[CohortPlan, ...]) -> list[str]:
    return [run.run_id for cohort in cohorts for run in cohort.members]


LARGE = sweep("axes:\n  model.width: [16, 32]\n  optim.lr: [1.0e-4, 1.0e-3, 1.0e-2]\nreplicates: 100").runs
counts = st.integers(0, len(LARGE))
widths, workers = st.integers(1, 64), st.integers(1, 12)


# -- packing ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(n=counts, width=widths, workers=workers)
def test_packing_is_a_partition(n: int, width: int, workers: int):
    packed = members(pack(LARGE[:n], width=width, workers=workers))
    assert sorted(packed) == sorted(run.run_id for run in LARGE[:n])


@settings(deadline=None)
@given(n=counts, width=widths, workers=workers)
def test_every_cohort_has_one_shape_and_some_members(n: int, width: int, workers: int):
    for cohort in pack(LARGE[:n], width=width, workers=workers):
        assert {run.shape_key for run in cohort.members} == {cohort.shape_key}


@settings(deadline=None)
@given(n=counts, width=widths, workers=workers)
def test_every_worker_gets_a_cohort_where_runs_suffice(n: int, width: int, workers: int):
    assert len(pack(LARGE[:n], width=width, workers=workers)) >= min(n, workers)


@settings(deadline=None)
@given(n=counts, width=widths, workers=workers)
def test_cohorts_of_a_shape_differ_by_one_member_at_most(n: int, width: int, workers: int):
    sizes: dict[str, list[int]] = {}
    for cohort in pack(LARGE[:n], width=width, workers=workers):
        sizes.setdefault(cohort.shape_key, []).append(len(cohort.members))
    for of_shape in sizes.values():
        assert max(of_shape) - min(of_shape) <= 1
        assert max(of_shape) <= max(MOST_MEMBERS, 4 * width)


def test_packing_twice_gives_the_same_cohorts():
    assert pack(LARGE, width=16, workers=3) == pack(LARGE, width=16, workers=3)


def test_one_large_shape_gives_two_cohorts_a_worker():
    runs = sweep("replicates: 200").runs
    assert len(pack(runs, width=8, workers=4)) == 8


def test_slots_are_filled_before_a_second_cohort_a_worker():
    runs = sweep("replicates: 40").runs
    assert [len(cohort.members) for cohort in pack(runs, width=16, workers=2)] == [20, 20]


def test_configs_spread_over_cohorts():
    runs = sweep("axes:\n  optim.lr: [0.1, 0.2, 0.3, 0.4]\nreplicates: 16").runs
    for cohort in pack(runs, width=4, workers=2):
        assert len({run.config_id for run in cohort.members}) == 4


def test_cohort_id_depends_on_members_and_their_order():
    one, two = LARGE[:4], LARGE[4:8]
    ids = {cohort_id(one), cohort_id(two), cohort_id(one[::-1]), cohort_id(one[:3])}
    assert len(ids) == 4
    assert cohort_id(list(one)) == cohort_id(one)
    assert all(len(found) == 16 for found in ids)


# -- plan = sweep - ledger ----------------------------------------------------------------------


def test_stored_runs_are_not_planned_again():
    found = sweep()
    stored = {run.run_id: "finished" for run in found.runs[:5]} | {"of another sweep": "finished"}
    plan = make_plan(found, stored=stored, width=4, workers=2)
    assert plan.already == 5
    assert [run.run_id for run in plan.new] == [run.run_id for run in found.runs[5:]]
    assert sorted(members(plan.cohorts)) == sorted(run.run_id for run in plan.new)


@pytest.mark.parametrize(("retry", "new", "failed_before"), [(False, 0, 2), (True, 2, 0)])
def test_failed_runs_are_planned_again_only_on_request(retry: bool, new: int, failed_before: int):
    found = sweep()
    statuses = ["failed"] * 2 + ["diverged"] * 3 + ["finished"] * (len(found.runs) - 5)
    stored = {run.run_id: status for run, status in zip(found.runs, statuses, strict=True)}
    plan = make_plan(found, stored=stored, width=4, workers=2, retry_failed=retry)
    assert (len(plan.new), plan.failed_before) == (new, failed_before)
    assert plan.already == len(found.runs) - new


def test_finished_sweep_plans_nothing():
    found = sweep()
    plan = make_plan(found, stored={run.run_id: "finished" for run in found.runs}, width=4, workers=2)
    assert (plan.new, plan.cohorts, plan.run_steps) == ((), (), 0)
    assert estimate_hours(plan, seconds_per_run_step={}, workers=2) == 0.0


# -- how long, how sure -------------------------------------------------------------------------


def ledger(rows: list[tuple[str, str, int, float | None]]) -> pa.Table:
    names = ("shape_key", "status", "steps", "seconds")
    columns = list(zip(*rows, strict=True))
    return pa.table({name: list(column) for name, column in zip(names, columns, strict=True)})


def test_speed_is_time_over_steps_of_runs_that_trained():
    table = ledger(
        [
            ("a", "finished", 100, 1.0),
            ("a", "diverged", 300, 1.0),
            ("a", "failed", 10, 99.0),
            ("a", "finished", 10, None),
            ("b", "finished", 10, 0.0),
        ]
    )
    assert seconds_per_run_step(table) == {"a": 2.0 / 400}


def test_hours_are_unknown_while_a_shape_was_never_timed():
    plan = make_plan(sweep(), stored={}, width=4, workers=2)
    first, second = {cohort.shape_key for cohort in plan.cohorts}
    assert estimate_hours(plan, seconds_per_run_step={first: 1.0}, workers=2) is None
    both = estimate_hours(plan, seconds_per_run_step={first: 1.0, second: 1.0}, workers=2)
    assert both == pytest.approx(24 * 100 / 2 / 3600)


def test_one_cohort_is_not_shared_by_workers():
    plan = make_plan(sweep("replicates: 1"), stored={}, width=4, workers=8)
    [cohort] = plan.cohorts
    assert estimate_hours(plan, seconds_per_run_step={cohort.shape_key: 36.0}, workers=8) == pytest.approx(1.0)


@pytest.mark.parametrize("n", [2, 8, 16, 100])
def test_interval_width_is_scipys_wilson_interval(n: int):
    from scipy.stats import binomtest

    found = binomtest(n // 2, n).proportion_ci(method="wilson")
    assert math.isclose(interval_width(n), found.high - found.low, rel_tol=1e-12)
