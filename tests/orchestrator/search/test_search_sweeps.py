"""The shipped searches say what they ask for, and fit the six minutes that they promise."""

from __future__ import annotations

import pytest

from orchestrator.search.forecast import drawn_runs
from orchestrator.shipped import find_sweep
from orchestrator.sweep import load_sweep

MOST_RUN_STEPS = 150_000  # in three minutes on two cores, as the quickstart has it


@pytest.mark.parametrize("name", ["search_tpe", "search_pareto"])
def test_a_shipped_search_is_affordable(name: str) -> None:
    sweep = load_sweep(find_sweep(name))
    assert sweep.search is not None
    runs = drawn_runs(sweep.search.space, configs=20)
    per_config = sum(run.budget.steps for run in runs) / 20
    assert sweep.search.most_trials is not None
    assert sweep.search.most_trials * per_config < MOST_RUN_STEPS
    assert {run.stop.after_event_steps for run in runs} == {200}  # the detector wants to see what follows the fall


def test_the_pareto_search_weighs_chance_against_cost() -> None:
    search = load_sweep(find_sweep("search_pareto")).search
    assert search is not None
    assert [(one.label, one.is_maximised) for one in search.asked.objectives] == [
        ("p_eureka", True),
        ("run_steps", False),
    ]
