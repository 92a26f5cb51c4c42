"""What a search may cost: configs drawn at random from its space stand for those it will ask."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.outlook import DEFAULT_WIDTH
from orchestrator.plan import Duration, Plan, interval_width
from orchestrator.planner import Means, plan_sweep
from orchestrator.search.proposal import Proposal
from orchestrator.search.request import Search
from orchestrator.search.space import Space, Unfit
from orchestrator.status import trial_counts
from orchestrator.sweep import Sweep
from workloads.spec import RunSpec

if TYPE_CHECKING:
    from analysis.store import Store

NO_TRIALS = {"complete": 0, "failed": 0, "running": 0, "warm": 0}
DRAWN = 48  # configs that stand for all
ATTEMPTS = 20  # to draw each of them, where some values make no run


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one `eureka run` of a search would do at most.

    Attributes:
        sweep: the search's.
        plan: of configs drawn at random from the space.
        trials: there already, by state.
        trials_left: at most; None where only run-steps or hours end the search.
    """

    sweep: Sweep
    plan: Plan
    trials: dict[str, int]
    trials_left: int | None

    @property
    def search(self) -> Search:
        """The sweep's."""
        assert self.sweep.search is not None
        return self.sweep.search

    @property
    def run_steps_at_most(self) -> int | None:
        """Of what is left to ask [run-steps]."""
        bounds = []
        if self.trials_left is not None:
            bounds.append(self.trials_left * self.search.space.n_replicates * self.search.budget_steps)
        if self.search.asked.settings.run_steps is not None:
            bounds.append(int(self.search.asked.settings.run_steps))
        return min(bounds) if bounds else None

    @property
    def run_steps_expected(self) -> float | None:
        """The same, as far as runs like those drawn end before their budget [run-steps]."""
        most = self.run_steps_at_most
        runs = self.plan.sweep.runs
        if most is None or not runs:
            return None
        return most * sum(map(self.plan.outlook.steps_of, runs)) / sum(run.budget.steps for run in runs)

    @property
    def duration(self) -> Duration | None:
        """How long it takes; None where a step's time is unknown, or nothing bounds it."""
        rates, bound_s = self.plan.outlook.seconds_per_run_step, self.search.asked.settings.hours
        most, expected = self.run_steps_at_most, self.run_steps_expected
        if most is None or expected is None or not rates:
            return None if bound_s is None else Duration(3600.0 * bound_s, 3600.0 * bound_s)
        pace = self.plan.workers / (sum(rates.values()) / len(rates))
        found = [self.plan.outlook.startup_s + steps / pace for steps in (expected, most)]
        if bound_s is not None:
            found = [min(seconds, 3600.0 * bound_s) for seconds in found]
        return Duration(*found)

    def record(self) -> dict[str, Any]:
        """The forecast for `--json`."""
        duration, n = self.duration, self.search.space.n_replicates
        left = self.trials_left
        return {
            "sweep": self.sweep.name,
            "question": self.sweep.question,
            "search": self.search.record(),
            "points": self.search.space.size,
            "replicates": n,
            "trials": self.trials,
            "trials_at_most": left,
            "runs_at_most": None if left is None else left * n,
            "workers": self.plan.workers,
            "run_steps_at_most": self.run_steps_at_most,
            "run_steps_expected": None if self.run_steps_expected is None else round(self.run_steps_expected),
            "hours_at_most": duration and duration.at_most_s / 3600.0,
            "hours_expected": duration and duration.expected_s / 3600.0,
            "interval_width": interval_width(n),
        }


def forecast(sweep: Sweep, *, store: Store | None, means: Means) -> Forecast:
    """What a search would do now, with these means."""
    search = sweep.search
    assert search is not None
    drawn = replace(sweep, search=None, runs=drawn_runs(search.space, configs=DRAWN))
    trials = (store and trial_counts(store, sweep=sweep.name)) or NO_TRIALS
    most = search.most_trials
    left = None if most is None else max(0, most - trials["complete"] - trials["failed"] - trials["running"])
    if left is not None:
        left += trials["running"]
    return Forecast(
        sweep=sweep,
        plan=plan_sweep(drawn, store=store, means=search_means(means)),
        trials=trials,
        trials_left=left,
    )


def search_means(means: Means) -> Means:
    """Slots are few where what is open is asked in ignorance of the rest: as many as are usual, not as many as fit."""
    return means if means.width or means.device == "cuda" else replace(means, width=DEFAULT_WIDTH[means.device])


def drawn_runs(space: Space, *, configs: int) -> tuple[RunSpec, ...]:
    """The runs of configs drawn at random, the same ones every time; values that make no run are drawn again."""
    rng, runs = np.random.default_rng(0), dict[str, RunSpec]()
    for _ in range(min(configs, space.size or configs)):
        for _ in range(ATTEMPTS):
            proposal = Proposal(trial=0, params=space.draw(rng), replicates=range(space.n_replicates))
            try:
                runs |= {run.run_id: run for run in space.runs(proposal)}
                break
            except Unfit:
                continue
    return tuple(runs.values())


def slots_of(plan: Plan) -> int:
    """Runs in training at once, as planned."""
    widths = [plan.outlook.width_of(run.shape_key) for run in plan.sweep.runs]
    return plan.workers * max(widths, default=plan.outlook.width)


def batch_of(search: Search, *, slots: int) -> int:
    """Configs asked in one go: what the file says, else as many as fill the slots."""
    return search.asked.settings.batch or max(1, math.ceil(slots / search.space.n_replicates))
