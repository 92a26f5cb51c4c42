"""Which cohort trains next, who gets more runs, and what becomes of a cohort that fails; for every launcher.

A worker reports how many of its members wait for a slot. Where fewer wait than it has slots, it is sent
more of the same shape, taken from cohorts that no worker has begun: so slots do not fall idle one by
one at the end of every cohort, but once, at the end of the sweep. What is sent in one go is a *hand*.

A fault in the members' own code comes back at once when tried again, so the cohort is halved until
the culprit stands alone as a `failed` row with its traceback. A lost worker (killed, out of memory,
its machine gone) is another matter: the cohort is given out again as long as its attempts get
anywhere, and only one that is lost repeatedly without a step of progress is treated as faulty. Where
no worker at all has come to its first pulse, the fault is the cluster's, and no run is marked.

Whenever a cohort is given out, it is under a name of its own, an *attempt*: its record in the store is the licence to
commit, and is taken away before the cohort is given out again. So a worker that was given up for lost, and lives, finds
that it has been superseded, and commits nothing more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from analysis.store import Store
from orchestrator.packing import CohortPlan, cohort_of
from orchestrator.pulse import Pulse, failed_row, hand_name
from workloads.fields import column_types
from workloads.spec import RunSpec

LOSSES_WITHOUT_PROGRESS = 3


class Source(Protocol):
    """Where more cohorts come from while a queue is worked on: a search."""

    @property
    def is_open(self) -> bool:
        """More may come."""

    def poll(self, queue: CohortQueue, *, wait_s: float = 0.0) -> None:
        """Add what there is; waits for it no longer than that [s]."""


@dataclass
class Given:
    """A cohort that was given out.

    Attributes:
        plan: as it is now, hands included.
        hands: what was sent after it.
        is_begun: a worker may have read it; until then its members can still be moved.
    """

    plan: CohortPlan
    hands: list[tuple[RunSpec, ...]] = field(default_factory=list)
    is_begun: bool = False


class CohortQueue:
    """The cohorts of one sweep, until each of their runs has its row.

    Args:
        store: where workers find cohorts and leave runs.
        sweep: its name.
        cohorts: the plan.
        settings: what every worker is told besides its members (device …).
        saved: run_ids that have a saved state.
        source: where more cohorts come from; None where these are all.
        token: in the names of this queue's attempts; another's attempts have another.
        is_granted: of several commands that share the sweep, whether these runs (run_ids) are still this one's.
    """

    def __init__(
        self,
        *,
        store: Store,
        sweep: str,
        cohorts: Iterable[CohortPlan],
        settings: Mapping[str, Any],
        saved: Collection[str] = (),
        source: Source | None = None,
        token: str | None = None,
        is_granted: Callable[[Collection[str]], bool] | None = None,
    ):
        self.source, self._is_granted = source, is_granted
        self._token, self._attempts = token or uuid.uuid4().hex[:6], 0
        self.store, self.sweep, self.settings, self.saved = store, sweep, dict(settings), saved
        self.ready: list[CohortPlan] = list(cohorts)
        self.out: dict[str, Given] = {}
        self.pulses: dict[str, Pulse] = {}
        self.failed = 0  # runs recorded as failed
        self.lost_workers = 0
        self.has_heard = False  # any worker came as far as a pulse
        self.halted = ""  # why no cohort is given out any more
        self._losses: dict[str, tuple[int, int]] = {}  # cohort_id -> (progress when last lost, losses since)
        self._suspects: set[str] = set()  # cohort_ids that were lost or at fault: nothing is moved in or out

    @property
    def is_over(self) -> bool:
        """Nothing is out, and nothing waits, or may come, that will be given out."""
        more = bool(self.ready) or (self.source is not None and self.source.is_open)
        return not self.out and (not more or bool(self.halted))

    @property
    def unheard_steps(self) -> int:
        """Budgets of runs that no pulse speaks of: ready, given out and silent, or sent and not taken [run-steps]."""
        steps = sum(plan.budget_steps for plan in self.ready)
        for name, given in self.out.items():
            pulse = self.pulses.get(name)
            if pulse is None:
                steps += given.plan.budget_steps
            else:
                steps += sum(run.budget.steps for hand in given.hands[pulse.hands :] for run in hand)
        return steps

    def add(self, cohorts: Iterable[CohortPlan]) -> None:
        """Take in more cohorts, behind those that are ready."""
        self.ready += cohorts

    def take(self, *, wait_s: float = 0.0) -> str | None:
        """The next cohort's attempt; None when none is ready, nor comes within that time [s]."""
        if self.source is not None:
            self.source.poll(self, wait_s=0.0 if self.ready else wait_s)
        if not self.ready or self.halted:
            return None
        plan = self.ready.pop(0)
        lacking = plan.width - len(plan.members)
        if lacking > 0 and plan.cohort_id not in self._suspects:
            more = self._withdraw(plan.shape_key, most=lacking, of_others=lacking)
            plan = cohort_of([*plan.members, *more], width=plan.width) if more else plan
        self._attempts += 1
        attempt = f"{plan.cohort_id}.{self._token}.{self._attempts}"
        return attempt if self._license(attempt, plan) else None

    def _license(self, attempt: str, plan: CohortPlan) -> bool:
        """File what a worker may train; not where others took this command for dead meanwhile, and its runs."""
        is_suspect = plan.cohort_id in self._suspects
        if self._is_granted is None:
            self._write(attempt, plan.members, width=plan.width, suspect=is_suspect)
        else:
            with self.store.locked():
                if not self._is_granted([run.run_id for run in plan.members]):
                    return False
                self._write(attempt, plan.members, width=plan.width, suspect=is_suspect)
        self.out[attempt] = Given(plan)
        return True

    def begin(self, cohort: str) -> None:
        """A worker is about to read the cohort."""
        if cohort in self.out:
            self.out[cohort].is_begun = True

    def hear(self, pulse: Pulse) -> None:
        """Take in what a worker reports."""
        self.has_heard = True
        self.begin(pulse.cohort)
        if pulse.halt:
            self.halted = pulse.halt
            self.out.pop(pulse.cohort, None)
        elif pulse.superseded:
            self._superseded(pulse.cohort)
        elif pulse.error:
            self._faulty(pulse.cohort, pulse.error)
        elif pulse.cohort in self.out:
            before = self.pulses.get(pulse.cohort)
            self.pulses[pulse.cohort] = pulse
            if self.source is not None:
                self.source.poll(self)
            if pulse.over:
                self._close(pulse)
            else:
                self._top_up(pulse, ended=_ended(pulse) - (_ended(before) if before else 0))

    def lost(self, cohort: str, why: str) -> None:
        """A worker vanished with a cohort."""
        if cohort not in self.out:
            return
        self.lost_workers += 1
        plan = self.out[cohort].plan
        progress = self._progress(plan)
        before, losses = self._losses.get(plan.cohort_id, (-1, 0))
        losses = losses + 1 if progress <= before else 1
        self._losses[plan.cohort_id] = (progress, losses)
        if losses < LOSSES_WITHOUT_PROGRESS:
            self._settle_pulse(cohort)
            self._forget(cohort)
            self._suspects.add(plan.cohort_id)
            self.ready.insert(0, plan)
        elif self.has_heard:
            self._faulty(cohort, why)
        else:
            self.halted = "workers are lost before their first step; is the cluster able to start them?"
            self.out.pop(cohort)

    # -- moving runs to where slots fall free ------------------------------------------------

    def _top_up(self, pulse: Pulse, *, ended: int) -> None:
        """Send a worker more runs before it runs short: what it has slots for, or what ends in two pulses.

        What was given to others that are still starting is left to them, until here slots fall free: whoever starts
        late on a cluster should find its cohort.
        """
        given = self.out[pulse.cohort]
        plan = given.plan
        if plan.cohort_id in self._suspects or self.halted:
            return
        waiting = pulse.waiting + sum(map(len, given.hands[pulse.hands :]))
        wanted = max(plan.width, 2 * ended) - waiting
        needed = max(plan.width - pulse.running, 2 * ended) - waiting
        if wanted > 0 and (hand := self._withdraw(plan.shape_key, most=wanted, of_others=needed, is_shared=True)):
            given.plan = replace(plan, members=(*plan.members, *hand))
            given.hands.append(hand)
            self._write(hand_name(pulse.cohort, len(given.hands)), hand, width=plan.width)

    def _withdraw(self, shape_key: str, *, most: int, of_others: int, is_shared: bool = False) -> tuple[RunSpec, ...]:
        """Take runs of a shape out of cohorts that nobody has begun, in the order of the plan.

        Args:
            shape_key: of the runs wanted.
            most: so many at most.
            of_others: take from cohorts that were given out, too, until there are so many.
            is_shared: leave their share to the others that train this shape.
        """
        sharers = sum(given.is_begun and given.plan.shape_key == shape_key for given in self.out.values())
        pending = [given.plan for given in self.out.values() if not given.is_begun]
        hand: list[RunSpec] = []
        for source, wanted in ((self.ready, most), (pending, min(most, of_others))):
            plans = [plan for plan in source if plan.shape_key == shape_key and plan.cohort_id not in self._suspects]
            share = -(-sum(len(plan.members) for plan in plans) // max(1, sharers))
            left = min(wanted - len(hand), share) if is_shared else wanted - len(hand)
            for plan in plans if left > 0 else ():
                taken, rest = plan.members[:left], plan.members[left:]
                if taken:
                    hand += taken
                    left -= len(taken)
                    self._shrink(plan, rest)
        return tuple(hand)

    def _shrink(self, plan: CohortPlan, rest: tuple[RunSpec, ...]) -> None:
        """Leave a cohort that nobody has begun with the rest of its members."""
        if attempt := next((name for name, given in self.out.items() if given.plan is plan), None):
            self.out[attempt].plan = replace(plan, members=rest)
            self._write(attempt, rest, width=plan.width)  # where its worker will find the rest
        else:
            at = self.ready.index(plan)
            self.ready[at : at + 1] = [cohort_of(rest, width=plan.width)] if rest else []

    def _close(self, pulse: Pulse) -> None:
        """A cohort is done; hands that came too late are given out again."""
        late = [run for hand in self.out[pulse.cohort].hands[pulse.hands :] for run in hand]
        width = self.out[pulse.cohort].plan.width
        self._forget(pulse.cohort)
        if late:
            self.ready.insert(0, cohort_of(late, width=width))

    # -- what goes wrong ---------------------------------------------------------------------

    def _faulty(self, cohort: str, error: str) -> None:
        """Halve a cohort that cannot be trained; a single run becomes a failed row."""
        if cohort not in self.out:
            return
        done = self.store.statuses()
        plan = self.out[cohort].plan
        left = [spec for spec in plan.members if spec.run_id not in done]
        self._settle_pulse(cohort)
        self._forget(cohort)
        if len(left) == 1:
            row = failed_row(left[0], cohort=cohort, error=error)
            self.store.commit([row], [], types=column_types(left[0]))
            self.failed += 1
        for half in (left[: len(left) // 2], left[len(left) // 2 :]) if len(left) > 1 else ():
            suspect = cohort_of(half, width=plan.width)
            self._suspects.add(suspect.cohort_id)
            self.ready.append(suspect)

    def _superseded(self, cohort: str) -> None:
        """The runs are another command's by now."""
        if cohort in self.out:
            self._settle_pulse(cohort)
            self._forget(cohort)
            if self._is_granted is None:
                why = "another command has taken the sweep over, or its files were removed from the store"
                self.halted = f"{why}; committed runs are safe, and the same command goes on"

    def _settle_pulse(self, cohort: str) -> None:
        """Keep a lost attempt's counts of work done, forget what it had in its slots."""
        if cohort in self.pulses:
            self.pulses[cohort] = replace(self.pulses[cohort], running=0, waiting=0, steps_left=0, over=True)

    def _progress(self, cohort: CohortPlan) -> int:
        """Steps of a cohort's members that are safe: committed or saved."""
        done, saved = self.store.statuses(), self.store.checkpoints.furthest()
        budget = {spec.run_id: spec.budget.steps for spec in cohort.members}
        return sum(steps if run in done else saved[run][1] if run in saved else 0 for run, steps in budget.items())

    # -- what workers read -------------------------------------------------------------------

    def _write(self, name: str, members: Iterable[RunSpec], *, width: int, suspect: bool = False) -> None:
        members = list(members)
        resumes = suspect or any(spec.run_id in self.saved for spec in members)
        dumped = [spec.model_dump(mode="json") for spec in members]
        self.store.save_cohort(
            self.sweep, name, {"members": dumped, "width": width, "resumes": resumes, **self.settings}
        )

    def _forget(self, cohort: str) -> None:
        """Take a cohort off the list, and its files from the store."""
        given = self.out.pop(cohort)
        for name in (cohort, *(hand_name(cohort, n + 1) for n in range(len(given.hands)))):
            self.store.drop_cohort(self.sweep, name)


def _ended(pulse: Pulse) -> int:
    return pulse.finished + pulse.diverged
