"""Which cohort trains next, and what becomes of one that fails; shared by every launcher.

A fault in the members' own code comes back at once when tried again, so the cohort is halved until
the culprit stands alone as a `failed` row with its traceback. A lost worker (killed, out of memory,
its machine gone) is another matter: the cohort is given out again as long as its attempts get
anywhere, and only one that is lost repeatedly without a step of progress is treated as faulty. Where
no worker at all has come to its first pulse, the fault is the cluster's, and no run is marked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from analysis.store import Store
from orchestrator.plan import CohortPlan, cohort_id
from orchestrator.worker import Pulse, failed_row
from workloads.fields import column_types
from workloads.spec import RunSpec

LOSSES_WITHOUT_PROGRESS = 3


class CohortQueue:
    """The cohorts of one sweep, until each of their runs has its row.

    Args:
        store: where workers find cohorts and leave runs.
        sweep: its name.
        cohorts: the plan.
        settings: what every worker is told besides its members (width, device …).
    """

    def __init__(self, *, store: Store, sweep: str, cohorts: Iterable[CohortPlan], settings: Mapping[str, Any]):
        self.store, self.sweep, self.settings = store, sweep, dict(settings)
        self.ready: deque[CohortPlan] = deque()
        self.out: dict[str, CohortPlan] = {}
        self.pulses: dict[str, Pulse] = {}
        self.failed = 0  # runs recorded as failed
        self.lost_workers = 0
        self.has_heard = False  # any worker came as far as a pulse
        self.halted = ""  # why no cohort is given out any more
        self._losses: dict[str, tuple[int, int]] = {}  # cohort -> (progress when last lost, losses since)
        for cohort in cohorts:
            self._add(cohort)

    @property
    def is_over(self) -> bool:
        """Nothing is out, and nothing waits that will be given out."""
        return not self.out and (not self.ready or bool(self.halted))

    @property
    def members(self) -> list[RunSpec]:
        """Every run that is not done with."""
        return [spec for cohort in (*self.ready, *self.out.values()) for spec in cohort.members]

    def take(self) -> str | None:
        """The next cohort's id; None when none is ready."""
        if not self.ready or self.halted:
            return None
        cohort = self.ready.popleft()
        self.out[cohort.cohort_id] = cohort
        return cohort.cohort_id

    def hear(self, pulse: Pulse) -> None:
        """Take in what a worker reports."""
        self.has_heard = True
        if pulse.halt:
            self.halted = pulse.halt
            self.out.pop(pulse.cohort, None)
        elif pulse.error:
            self._faulty(pulse.cohort, pulse.error)
        elif pulse.cohort in self.out:
            self.pulses[pulse.cohort] = pulse
            if pulse.over:
                del self.out[pulse.cohort]
                self.store.drop_cohort(self.sweep, pulse.cohort)

    def lost(self, cohort: str, why: str) -> None:
        """A worker vanished with a cohort."""
        if cohort not in self.out:
            return
        self.lost_workers += 1
        progress = self._progress(self.out[cohort])
        before, losses = self._losses.get(cohort, (-1, 0))
        losses = losses + 1 if progress <= before else 1
        self._losses[cohort] = (progress, losses)
        if losses < LOSSES_WITHOUT_PROGRESS:
            self._settle_pulse(cohort)
            self.ready.appendleft(self.out.pop(cohort))
        elif self.has_heard:
            self._faulty(cohort, why)
        else:
            self.halted = "workers are lost before their first step; is the cluster able to start them?"
            self.out.pop(cohort)

    def _faulty(self, cohort: str, error: str) -> None:
        """Halve a cohort that cannot be trained; a single run becomes a failed row."""
        if cohort not in self.out:
            return
        done = self.store.statuses()
        left = [spec for spec in self.out.pop(cohort).members if spec.run_id not in done]
        self._settle_pulse(cohort)
        self.store.drop_cohort(self.sweep, cohort)
        if len(left) == 1:
            row = failed_row(left[0], cohort=cohort, error=error)
            self.store.commit([row], [], types=column_types(left[0]))
            self.failed += 1
        for half in (left[: len(left) // 2], left[len(left) // 2 :]) if len(left) > 1 else ():
            self._add(CohortPlan(cohort_id=cohort_id(half), shape_key=half[0].shape_key, members=tuple(half)))

    def _add(self, cohort: CohortPlan) -> None:
        members = [spec.model_dump(mode="json") for spec in cohort.members]
        self.store.save_cohort(self.sweep, cohort.cohort_id, {"members": members, **self.settings})
        self.ready.append(cohort)

    def _settle_pulse(self, cohort: str) -> None:
        """Keep a lost attempt's counts of work done, forget what it had in its slots."""
        if cohort in self.pulses:
            pulse = self.pulses.pop(cohort)
            name = f"{cohort}/{len(self.pulses)}"
            self.pulses[name] = replace(pulse, running=0, waiting=0, steps_left=0, over=True)

    def _progress(self, cohort: CohortPlan) -> int:
        """Steps of a cohort's members that are safe: committed or saved."""
        done, saved = self.store.statuses(), self.store.saved_states()
        budget = {spec.run_id: spec.budget.steps for spec in cohort.members}
        return sum(steps if run in done else saved[run][1] if run in saved else 0 for run, steps in budget.items())
