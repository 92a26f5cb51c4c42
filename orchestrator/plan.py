"""What a sweep still has to train, packed into cohorts; what it may cost; how sure its answer can be.

A plan is a pure function of the sweep, the ledger and the outlook, so resuming is planning again, and
`eureka run` trains the very plan that `eureka plan` shows.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from orchestrator.outlook import END_APART, Outlook
from orchestrator.packing import CohortPlan, pack
from orchestrator.sweep import Sweep
from workloads.spec import RunSpec


def usable_cores() -> int:
    """Cores that this process may use; macOS only tells how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Duration:
    """How long a plan will take: about `expected_s`, and `at_most_s` if no run stops before its budget."""

    expected_s: float
    at_most_s: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one `eureka run` would do.

    Attributes:
        sweep: the question.
        new: runs to train, in the sweep's order.
        already: runs that the ledger has, and that stay as they are.
        failed_before: how many of those failed; `retry_failed` would train them again.
        cohorts: the new runs, packed, in the order in which workers take them.
        workers: processes that train at once.
        outlook: what was known of the runs.
        compiled_s: about how long the compiled program would take instead; None where it would not pay [s].
    """

    sweep: Sweep
    new: tuple[RunSpec, ...]
    already: int
    failed_before: int
    cohorts: tuple[CohortPlan, ...]
    workers: int
    outlook: Outlook
    compiled_s: float | None = None

    @property
    def run_steps(self) -> int:
        """Steps of all new runs, if each spends its whole budget [run-steps]."""
        return sum(run.budget.steps for run in self.new)

    @property
    def expected_run_steps(self) -> float:
        """Steps of all new runs, as far as one can tell [run-steps]."""
        return sum(map(self.outlook.steps_of, self.new))

    @property
    def duration(self) -> Duration | None:
        """How long it will take; None where a shape's rate is not known."""
        if not self.new:
            return Duration(0.0, 0.0)
        if any(cohort.shape_key not in self.outlook.seconds_per_run_step for cohort in self.cohorts):
            return None
        return Duration(self._seconds(is_expected=True), self._seconds(is_expected=False))

    def _seconds(self, *, is_expected: bool) -> float:
        """Start-up, the workers' equal shares of the work, and how far they end apart.

        The last slots of a worker fall free over the length of one run, so two workers end about a
        fifth of the longest run's time apart; and no sweep is over before its longest run.
        """
        rate, work, longest = self.outlook.seconds_per_run_step, 0.0, 0.0
        company = math.ceil(len(self.new) / self.workers)
        for run in self.new:
            seconds = (self.outlook.steps_of(run) if is_expected else run.budget.steps) * rate[run.shape_key]
            work += seconds
            longest = max(longest, seconds * min(self.outlook.width_of(run.shape_key), company))
        apart = END_APART * longest if self.workers > 1 else 0.0
        return self.outlook.startup_s + max(work / self.workers + apart, longest)

    def record(self) -> dict[str, Any]:
        """The plan for `--json`."""
        n, duration = self.sweep.n_replicates, self.duration
        return {
            "sweep": self.sweep.name,
            "question": self.sweep.question,
            "runs": len(self.sweep.runs),
            "configs": len(self.sweep.runs) // n,
            "replicates": n,
            "axes": {key: list(values) for key, values in self.sweep.axes.items()},
            "new": len(self.new),
            "already": self.already,
            "failed_before": self.failed_before,
            "workers": self.workers,
            "cohorts": [
                {"cohort_id": one.cohort_id, "shape_key": one.shape_key, "width": one.width, "runs": len(one.members)}
                for one in self.cohorts
            ],
            "run_steps_at_most": self.run_steps,
            "run_steps_expected": round(self.expected_run_steps),
            "hours_at_most": duration and duration.at_most_s / 3600.0,
            "hours_expected": duration and duration.expected_s / 3600.0,
            "hours_compiled": self.compiled_s and self.compiled_s / 3600.0,
            "interval_width": interval_width(n),
        }


def missing(sweep: Sweep, *, stored: Mapping[str, str], retry_failed: bool = False) -> tuple[RunSpec, ...]:
    """The runs of a sweep that a ledger has not (run_id -> status), in the sweep's order."""
    retried = "failed" if retry_failed else None
    return tuple(run for run in sweep.runs if stored.get(run.run_id, retried) == retried)


def make_plan(
    sweep: Sweep,
    *,
    stored: Mapping[str, str],
    workers: int,
    outlook: Outlook | None = None,
    saved: Collection[str] = (),
    retry_failed: bool = False,
) -> Plan:
    """The sweep less the ledger.

    Args:
        sweep: the question.
        stored: run_id -> status of every run in the ledger; runs of other sweeps are ignored.
        workers: processes that train at once.
        outlook: what is known of the runs; nothing, unless given.
        saved: run_ids that have a saved state; they go on first.
        retry_failed: train the runs again whose row says `failed`.
    """
    before = Counter(stored[run.run_id] for run in sweep.runs if run.run_id in stored)
    outlook = outlook or Outlook()
    new = missing(sweep, stored=stored, retry_failed=retry_failed)
    return Plan(
        sweep=sweep,
        new=new,
        already=len(sweep.runs) - len(new),
        failed_before=0 if retry_failed else before["failed"],
        cohorts=pack(new, outlook=outlook, workers=workers, first=saved),
        workers=workers,
        outlook=outlook,
    )


def interval_width(n: int, *, level: float = 0.95) -> float:
    """Whole width of the Wilson interval of a probability of one half [fraction].

    At P = 1/2 the interval's formula shrinks to z / sqrt(n + z²).

    Args:
        n: independent replicates of a config [runs].
        level: two-sided coverage [fraction].

    Source: Wilson 1927, JASA 22:209.
    Checked by: test_plan.py::test_interval_width_is_scipys_wilson_interval
    """
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    return z / math.sqrt(n + z * z)
