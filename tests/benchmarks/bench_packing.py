"""How full slots and workers stay: the real queue, simulated workers, runs that end at very different steps.

A simulated worker takes cohorts and hands as a real one does and reports every two seconds of simulated time.
A tick of k runs costs START_MS + k * RUN_MS. Runs are drawn from a bimodal law, as sweeps show it: some never
have their event and train their whole budget, the others stop anywhere from a quarter of it on.
*before* is what was there first: two cohorts a worker, dealt once.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.outlook import Outlook, prior_steps
from orchestrator.packing import CohortPlan, cohort_of, pack
from orchestrator.pulse import PULSE_S, Pulse, hand_name
from orchestrator.queue import CohortQueue
from orchestrator.sweep import sweep_from_text
from tests.benchmarks.timing import options, spread, table, tell
from workloads.spec import RunSpec

START_MS, RUN_MS = 3.1, 1.2  # of a tick: fits the quickstart's 1.97, 1.58, 1.39, 1.34 ms a run-step at widths 4 to 32
REUSE_S, START_SPREAD_S = 0.05, 1.0  # between two cohorts of a worker; between the first and the last worker's start
TITLE = "Packing: how full slots and workers stay (simulated)"
SWEEP = """
base:
  task: {{name: two_step, n_classes: 4}}
  model: {{width: 32}}
  optim: {{name: adamw, lr: 1.0e-3}}
  budget: {{steps: 1500, batch: 64}}
axes:
  model.width: {widths}
  optim.lr: {{log_range: [1.0e-4, 3.0e-3], points: 12}}
replicates: {replicates}
stop: {{after_event_steps: 200}}
"""


class Shelf:
    """Stands for the store: keeps what the queue files for workers."""

    def __init__(self) -> None:
        self.records: dict[str, Mapping[str, Any]] = {}

    def save_cohort(self, sweep: str, cohort: str, record: Mapping[str, Any]) -> None:
        self.records[cohort] = record

    def drop_cohort(self, sweep: str, cohort: str) -> None:
        self.records.pop(cohort, None)


class Queue(CohortQueue):
    """The real queue, but specs are filed as they are."""

    def _write(self, name: str, members: Any, *, width: int, suspect: bool = False) -> None:
        self.store.save_cohort("", name, {"members": list(members), "width": width})


class DealtOnce(Queue):
    """Nothing moves between cohorts."""

    def _top_up(self, pulse: Pulse, *, ended: int) -> None:
        pass

    def _withdraw(self, shape_key: str, *, most: int, of_others: int, is_shared: bool = False) -> tuple[RunSpec, ...]:
        return ()


@dataclass
class Worker:
    """A worker in simulated time."""

    now: float = 0.0
    busy_s: float = 0.0
    slot_s: float = 0.0
    cohort: str | None = None
    waiting: deque[RunSpec] = field(default_factory=deque)
    left: dict[str, float] = field(default_factory=dict)  # steps that the runs in slots still need
    ended: int = 0
    hands: int = 0
    width: int = 0

    def take(self, cohort: str, record: Mapping[str, Any]) -> None:
        self.cohort, self.hands, self.ended = cohort, 0, 0
        self.waiting = deque(record["members"])
        self.width = min(record["width"], len(self.waiting))

    def train(self, shelf: Shelf, steps: Mapping[str, float]) -> Pulse:
        """Until the next pulse is due."""
        assert self.cohort is not None
        until = self.now + PULSE_S
        while self.now < until:
            while len(self.waiting) < self.width and (
                hand := shelf.records.get(hand_name(self.cohort, self.hands + 1))
            ):
                self.waiting.extend(hand["members"])
                self.hands += 1
            while self.waiting and len(self.left) < self.width:
                run = self.waiting.popleft()
                self.left[run.run_id] = steps[run.run_id]
            self.width = len(self.left)  # on CPU a cohort narrows for good
            if not self.left:
                break
            self._tick(until)
        return Pulse(
            cohort=self.cohort, finished=self.ended, running=len(self.left), waiting=len(self.waiting),
            hands=self.hands, over=not self.left,
        )  # fmt: skip

    def _tick(self, until: float) -> None:
        tick_s = (START_MS + RUN_MS * len(self.left)) / 1000.0
        ticks = min(*self.left.values(), max(1.0, math.ceil((until - self.now) / tick_s)))
        self.now += ticks * tick_s
        self.busy_s += ticks * tick_s
        self.slot_s += ticks * tick_s * len(self.left)
        self.left = {run: left - ticks for run, left in self.left.items() if left > ticks}


@dataclass(frozen=True)
class Found:
    """Shares of workers × time, and of slots × time, that were used; and the time against a perfect packing's."""

    workers: float
    slots: float
    over_ideal: float


def simulate(
    queue: CohortQueue, shelf: Shelf, *, workers: int, width: int, steps: Mapping[str, float], rng: random.Random
) -> Found:
    """Train a queue's runs, each for its steps."""
    crew = [Worker(now=rng.uniform(0.0, START_SPREAD_S)) for _ in range(workers)]
    began = min(worker.now for worker in crew)
    order = [(worker.now, n) for n, worker in enumerate(crew)]
    heapq.heapify(order)
    last = 0.0
    while order:
        _, n = heapq.heappop(order)
        worker = crew[n]
        if worker.cohort is None:
            cohort = queue.take()
            if cohort is None:
                if queue.is_over:
                    continue
                worker.now += PULSE_S / 10
                heapq.heappush(order, (worker.now, n))
                continue
            queue.begin(cohort)
            worker.now += REUSE_S
            worker.take(cohort, shelf.records[cohort])
        before = len(worker.left) + len(worker.waiting)
        pulse = worker.train(shelf, steps)
        worker.ended += max(0, before - pulse.running - pulse.waiting)
        queue.hear(pulse)
        last = max(last, worker.now)
        if pulse.over:
            worker.cohort = None
        heapq.heappush(order, (worker.now, n))
    took = last - began
    slot_s, busy_s = (sum(getattr(worker, name) for worker in crew) for name in ("slot_s", "busy_s"))
    ideal = sum(steps.values()) * (START_MS / width + RUN_MS) / 1000.0 / workers
    return Found(busy_s / workers / took, slot_s / workers / width / took, took / ideal)


def before(runs: Sequence[RunSpec], *, width: int, workers: int) -> list[CohortPlan]:
    """Two cohorts a worker where that fills the slots, dealt in turn."""
    groups: dict[str, list[RunSpec]] = {}
    for run in runs:
        groups.setdefault(run.shape_key, []).append(run)
    plans = []
    for group in groups.values():
        share = math.ceil(workers * len(group) / len(runs))
        busy = min(2 * share, len(group) // width)
        busy -= busy % share
        cohorts = max(busy, min(share, len(group)), math.ceil(len(group) / max(256, 4 * width)))
        plans += [cohort_of(group[n::cohorts], width=width) for n in range(cohorts)]
    return plans


def lengths(runs: Sequence[RunSpec], rng: random.Random) -> dict[str, float]:
    """Steps that each run trains: its budget for the share of its config that never gets it."""
    chance: dict[str, float] = {}
    steps = {}
    for run in runs:
        if run.config_id not in chance:
            chance[run.config_id] = rng.choice([0.05, 0.5, 0.95])
        budget = run.budget.steps
        has_event = rng.random() < chance[run.config_id]
        steps[run.run_id] = float(round(rng.uniform(0.25, 1.0) * budget)) if has_event else float(budget)
    return steps


def compare(*, replicates: int, widths: list[int], width: int, workers: int, draws: int) -> list[list[str]]:
    """Rows of the table: before, now, and now with a ledger that knows every config."""
    runs = sweep_from_text(SWEEP.format(replicates=replicates, widths=widths)).runs
    found: dict[str, list[Found]] = {"before": [], "now": [], "now, ledger knows configs": []}
    for seed in range(draws):
        steps = lengths(runs, random.Random(seed))
        means: dict[str, list[float]] = {}
        for run in runs:
            means.setdefault(run.config_id, []).append(steps[run.run_id])
        known = {run.run_id: sum(means[run.config_id]) / len(means[run.config_id]) for run in runs}
        prior = Outlook(expected_steps={run.run_id: prior_steps(run) for run in runs}, width=width)
        plans = {
            "before": before(runs, width=width, workers=workers),
            "now": pack(runs, outlook=prior, workers=workers),
            "now, ledger knows configs": pack(
                runs, outlook=Outlook(expected_steps=known, width=width), workers=workers
            ),
        }
        for name, cohorts in plans.items():
            shelf = Shelf()
            kind = DealtOnce if name == "before" else Queue
            queue = kind(store=shelf, sweep="", cohorts=cohorts, settings={})  # type: ignore[arg-type]
            rng = random.Random(seed)
            found[name].append(simulate(queue, shelf, workers=workers, width=width, steps=steps, rng=rng))
    case = f"{len(runs):,} runs, {len(widths)} shape{'s' * (len(widths) > 1)}, {workers} workers × {width} slots"
    return [
        [case, name, *(spread([100.0 * getattr(one, share) for one in all_]) for share in ("slots", "workers")),
         spread([one.over_ideal for one in all_])]
        for name, all_ in found.items()
    ]  # fmt: skip


CASES: list[dict[str, Any]] = [
    {"replicates": 8, "widths": [32], "width": 8, "workers": 2},
    {"replicates": 40, "widths": [32], "width": 8, "workers": 2},
    {"replicates": 128, "widths": [32], "width": 8, "workers": 8},
    {"replicates": 32, "widths": [16, 32, 64, 128], "width": 8, "workers": 8},
    {"replicates": 256, "widths": [32], "width": 64, "workers": 2},
]


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="fewer draws")
    given = asked.parse_args(argv)
    draws = 3 if given.quick else 9
    rows = [row for case in CASES for row in compare(**case, draws=draws)]
    header = ["sweep", "packing", "slots in use, %", "workers in use, %", "time ÷ perfect packing"]
    text = f"{draws} draws a line; median (quartiles).\n\n{table(header, rows)}"
    tell(TITLE, text, is_kept=given.write)


if __name__ == "__main__":
    main()
