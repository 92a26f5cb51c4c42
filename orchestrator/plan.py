"""What a sweep still has to train, packed into cohorts; what it may cost; how sure its answer can be.

A plan is a pure function of the sweep and the ledger, so resuming is planning again.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from orchestrator.sweep import Sweep
from workloads.spec import RunSpec

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_WIDTH = {"cpu": 8, "cuda": 64}  # slots of a cohort, unless the user says
MOST_MEMBERS = 256  # a cohort that is lost costs at most this many runs, or four fillings of its slots
COHORTS_A_WORKER = 2  # the second one starts early where the first finishes early
UNKNOWN_TIME = "unknown until the first cohort has run"


def usable_cores() -> int:
    """Cores that this process may use; macOS only tells how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class CohortPlan:
    """Runs to be trained together, in this order.

    Attributes:
        cohort_id: content hash of the ordered members [16 hex digits].
        shape_key: what they have in common.
        members: more than the width, usually: a slot that falls free takes the next.
    """

    cohort_id: str
    shape_key: str
    members: tuple[RunSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one `eureka run` would do.

    Attributes:
        sweep: the question.
        new: runs to train, in the sweep's order.
        already: runs that the ledger has, and that stay as they are.
        failed_before: how many of those failed; `retry_failed` would train them again.
        cohorts: the new runs, packed.
    """

    sweep: Sweep
    new: tuple[RunSpec, ...]
    already: int
    failed_before: int
    cohorts: tuple[CohortPlan, ...]

    @property
    def run_steps(self) -> int:
        """Steps of all new runs, if each spends its whole budget [run-steps]."""
        return sum(run.budget.steps for run in self.new)

    def record(self, *, hours: float | None) -> dict[str, Any]:
        """The plan for `--json`."""
        n = self.sweep.n_replicates
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
            "cohorts": [
                {"cohort_id": cohort.cohort_id, "shape_key": cohort.shape_key, "runs": len(cohort.members)}
                for cohort in self.cohorts
            ],
            "run_steps_at_most": self.run_steps,
            "hours_at_most": hours,
            "interval_width": interval_width(n),
        }


def make_plan(sweep: Sweep, *, stored: Mapping[str, str], width: int, workers: int, retry_failed: bool = False) -> Plan:
    """The sweep less the ledger.

    Args:
        sweep: the question.
        stored: run_id -> status of every run in the ledger; runs of other sweeps are ignored.
        width: slots of a cohort.
        workers: processes that train at once.
        retry_failed: train the runs again whose row says `failed`.
    """
    before = Counter(stored[run.run_id] for run in sweep.runs if run.run_id in stored)
    retried = "failed" if retry_failed else None
    new = tuple(run for run in sweep.runs if stored.get(run.run_id, retried) == retried)
    return Plan(
        sweep=sweep,
        new=new,
        already=len(sweep.runs) - len(new),
        failed_before=0 if retry_failed else before["failed"],
        cohorts=pack(new, width=width, workers=workers),
    )


def pack(runs: Sequence[RunSpec], *, width: int, workers: int) -> tuple[CohortPlan, ...]:
    """Deal runs into cohorts of one shape each; every run is in exactly one.

    A shape gets a share of the workers by its share of the runs, so that there are at least `workers`
    cohorts where there are as many runs; twice as many where that still fills `width` slots; and more
    where cohorts would outgrow what may be lost at once. Dealing turns by one each round, so that
    configs, which come round in the same order, spread over the cohorts of their shape.
    """
    groups: dict[str, list[RunSpec]] = {}
    for run in runs:
        groups.setdefault(run.shape_key, []).append(run)
    cohorts: list[CohortPlan] = []
    for shape_key, group in groups.items():
        share = math.ceil(workers * len(group) / len(runs))
        hands = _deal(group, cohorts=_how_many(len(group), width=width, workers=share))
        cohorts += [CohortPlan(cohort_id=cohort_id(hand), shape_key=shape_key, members=hand) for hand in hands]
    return tuple(cohorts)


def cohort_id(members: Sequence[RunSpec]) -> str:
    """Content hash of the ordered members [16 hex digits]."""
    text = "\n".join(run.run_id for run in members)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _how_many(runs: int, *, width: int, workers: int) -> int:
    """Cohorts for the runs of one shape."""
    busy = min(COHORTS_A_WORKER * workers, runs // width)
    busy -= busy % workers  # an odd one out would keep one worker busy while the others wait
    return max(busy, min(workers, runs), math.ceil(runs / max(MOST_MEMBERS, 4 * width)))


def _deal(runs: Sequence[RunSpec], *, cohorts: int) -> list[tuple[RunSpec, ...]]:
    hands: list[list[RunSpec]] = [[] for _ in range(cohorts)]
    for position, run in enumerate(runs):
        turn = position // cohorts
        hands[(position + turn) % cohorts].append(run)
    return [tuple(hand) for hand in hands]


def seconds_per_run_step(ledger: pa.Table) -> dict[str, float]:
    """What a step of a run has cost so far, by shape_key [process-seconds a run-step].

    Args:
        ledger: RUNS rows; those of failed runs, or without a time, do not count.
    """
    import pyarrow.compute as pc

    timed = pc.and_(pc.greater(ledger["seconds"], 0.0), pc.not_equal(ledger["status"], "failed"))
    sums = ledger.filter(timed).group_by("shape_key").aggregate([("seconds", "sum"), ("steps", "sum")])
    rows = sums.to_pylist()
    return {row["shape_key"]: row["seconds_sum"] / row["steps_sum"] for row in rows if row["steps_sum"]}


def estimate_hours(plan: Plan, *, seconds_per_run_step: Mapping[str, float], workers: int) -> float | None:
    """Hours until the plan is done if every run spends its budget; None where a shape was never timed.

    Past runs may have had another width or device, so this is rough; stopping early only shortens it.
    """
    if any(cohort.shape_key not in seconds_per_run_step for cohort in plan.cohorts):
        return None
    costs = [
        seconds_per_run_step[cohort.shape_key] * sum(run.budget.steps for run in cohort.members)
        for cohort in plan.cohorts
    ]
    return max(sum(costs) / workers, max(costs, default=0.0)) / 3600.0


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
