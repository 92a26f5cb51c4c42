"""Who gets which runs, while a sweep is under way; what faults and losses do is in test_run.py and test_crash.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import small

from analysis.store import Store
from orchestrator.outlook import Outlook
from orchestrator.packing import cohort_of, pack
from orchestrator.pulse import Pulse, hand_name
from orchestrator.queue import CohortQueue
from workloads.spec import RunSpec

SETTINGS = {"device": "cpu", "checkpoint_s": 100.0}


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunSpec, ...]:
    return small(tmp_path, "replicates=32").runs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def queue_of(store: Store, sizes: list[int], runs: tuple[RunSpec, ...], *, width: int = 4, **more) -> CohortQueue:
    cohorts, at = [], 0
    for size in sizes:
        cohorts.append(cohort_of(runs[at : at + size], width=width))
        at += size
    return CohortQueue(store=store, sweep="s", cohorts=cohorts, settings=SETTINGS, **more)


def filed(store: Store, name: str) -> list[int]:
    """Data and initialisation seeds, and rates, tell the runs of a record apart."""
    return [(member["optim"]["lr"], member["seed"]["init"]) for member in store.cohort("s", name)["members"]]


def named(runs: tuple[RunSpec, ...]) -> list[tuple[float, int]]:
    return [(run.optim.lr, run.seed.init) for run in runs]


def began(queue: CohortQueue) -> str:
    cohort = queue.take()
    assert cohort is not None
    queue.begin(cohort)
    return cohort


def test_a_worker_that_runs_short_is_sent_the_next_runs(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 6], runs)
    cohort = began(queue)
    queue.hear(Pulse(cohort=cohort, running=4, waiting=1))
    assert filed(store, hand_name(cohort, 1)) == named(runs[8:11])
    assert [len(plan.members) for plan in queue.ready] == [3]


def test_nothing_is_sent_while_enough_wait(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 6], runs)
    cohort = began(queue)
    queue.hear(Pulse(cohort=cohort, running=4, waiting=4))
    with pytest.raises(FileNotFoundError):
        store.cohort("s", hand_name(cohort, 1))


def test_a_hand_on_its_way_is_not_sent_twice(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 20], runs)
    cohort = began(queue)
    for _ in range(3):
        queue.hear(Pulse(cohort=cohort, running=4, waiting=1))
    assert len(queue.out[cohort].hands) == 1


def test_quick_runs_are_sent_for_two_pulses_ahead(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [20, 40], runs)
    cohort = began(queue)
    queue.hear(Pulse(cohort=cohort, finished=10, running=4, waiting=6))
    assert len(queue.out[cohort].hands[0]) == 2 * 10 - 6


def test_hungry_workers_share_what_is_left(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 8, 4], runs)
    one, _other = began(queue), began(queue)
    queue.hear(Pulse(cohort=one, running=4, waiting=0))
    assert len(queue.out[one].hands[0]) == 2


def test_runs_of_another_shape_are_not_sent(tmp_path: Path, store: Store, runs: tuple[RunSpec, ...]):
    other = small(tmp_path, "base.model.width=16", name="other").runs
    queue = CohortQueue(
        store=store, sweep="s", settings=SETTINGS, cohorts=[cohort_of(runs[:4], width=4), cohort_of(other, width=4)]
    )
    cohort = began(queue)
    queue.hear(Pulse(cohort=cohort, running=4, waiting=0))
    assert queue.out[cohort].hands == []


def test_a_cohort_that_is_out_but_not_begun_can_still_give(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 4], runs)
    busy, pending = began(queue), queue.take()
    queue.hear(Pulse(cohort=busy, finished=1, running=0, waiting=0))
    assert filed(store, hand_name(busy, 1)) == named(runs[8:12])
    assert filed(store, pending) == []


def test_who_starts_late_finds_its_cohort_unless_slots_are_free_elsewhere(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 8], runs)
    busy, pending = began(queue), queue.take()
    queue.hear(Pulse(cohort=busy, running=4, waiting=0))
    assert queue.out[busy].hands == []
    queue.hear(Pulse(cohort=busy, running=1, waiting=0))
    assert filed(store, hand_name(busy, 1)) == named(runs[8:11])
    assert filed(store, pending) == named(runs[11:16])


def test_what_nobody_was_given_goes_first(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 4, 6], runs)
    busy, pending = began(queue), queue.take()
    queue.hear(Pulse(cohort=busy, running=0, waiting=0))
    assert filed(store, hand_name(busy, 1)) == named(runs[12:16])
    assert filed(store, pending) == named(runs[8:12])


def test_a_cohort_that_was_begun_gives_nothing(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 4], runs)
    one, other = began(queue), began(queue)
    queue.hear(Pulse(cohort=one, running=4, waiting=0))
    assert queue.out[one].hands == []
    assert filed(store, other) == named(runs[8:12])


def test_small_cohorts_are_merged_until_the_slots_are_full(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [1, 2, 4], runs)
    assert filed(store, began(queue)) == named(runs[:4])
    assert [len(plan.members) for plan in queue.ready] == [3]


def test_a_hand_that_came_too_late_is_given_out_again(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 6], runs)
    cohort = began(queue)
    queue.hear(Pulse(cohort=cohort, running=2, waiting=0))
    queue.hear(Pulse(cohort=cohort, finished=8, over=True, hands=0))
    again = [run for plan in queue.ready for run in plan.members]
    assert sorted(run.run_id for run in again) == sorted(run.run_id for run in runs[8:14])
    assert not queue.is_over


def test_two_cohorts_that_are_out_never_share_a_name(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 4], runs)
    busy, pending = began(queue), queue.take()
    queue.hear(
        Pulse(cohort=busy, finished=1, running=0, waiting=0)
    )  # is sent all that the pending one had, and takes nothing
    queue.hear(Pulse(cohort=busy, finished=8, over=True, hands=0))
    again = queue.take()
    assert again != pending
    assert filed(store, again) == named(runs[8:12])


def test_halves_of_a_faulty_cohort_stay_apart(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [4, 1], runs)
    queue.hear(Pulse(cohort=began(queue), over=True, error="Traceback …\nValueError: no"))
    sizes = [len(queue.out[began(queue)].plan.members) for _ in range(3)]
    assert sorted(sizes) == [1, 2, 2]


def test_files_of_a_cohort_that_is_done_are_gone(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 2], runs)
    cohort = began(queue)
    queue.hear(Pulse(cohort=cohort, running=4, waiting=0))
    queue.hear(Pulse(cohort=cohort, finished=10, over=True, hands=1))
    assert list((store.sweep_dir("s") / "cohorts").iterdir()) == []
    assert queue.is_over


def test_nothing_moves_in_or_out_of_a_cohort_that_was_lost(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [2], runs)
    lost = began(queue)
    queue.ready.append(cohort_of(runs[2:8], width=4))
    queue.lost(lost, "gone")
    again = began(queue)
    assert filed(store, again) == named(runs[:2])
    assert store.cohort("s", again)["resumes"]
    queue.hear(Pulse(cohort=again, running=2, waiting=0))
    assert queue.out[again].hands == []


def test_a_cohort_is_given_out_again_under_another_name_and_the_first_has_no_licence(
    store: Store, runs: tuple[RunSpec, ...]
):
    queue = queue_of(store, [2], runs)
    lost = began(queue)
    queue.lost(lost, "gone")
    assert began(queue) != lost
    with pytest.raises(FileNotFoundError):
        store.cohort("s", lost)
    queue.hear(Pulse(cohort=lost, running=2, waiting=0))  # it lives, and is not listened to
    assert list(queue.pulses) == []


def test_two_queues_never_give_out_the_same_name(store: Store, runs: tuple[RunSpec, ...]):
    one, other = queue_of(store, [2], runs), queue_of(store, [2], runs)
    assert began(one) != began(other)


def test_saved_states_are_looked_for_only_where_there_are_some(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [4, 4], runs, saved={runs[5].run_id})
    assert not store.cohort("s", began(queue))["resumes"]
    assert store.cohort("s", began(queue))["resumes"]


def test_runs_that_no_pulse_speaks_of_are_counted_once(store: Store, runs: tuple[RunSpec, ...]):
    queue = queue_of(store, [8, 8, 8], runs)
    one, _silent = began(queue), queue.take()
    queue.hear(Pulse(cohort=one, running=4, waiting=0))
    assert queue.unheard_steps == sum(run.budget.steps for run in runs[8:24])


class Crew:
    """Workers that take, begin, train and end in any order, as `pick` says."""

    def __init__(self, queue: CohortQueue, store: Store):
        self.queue, self.store = queue, store
        self.waiting: dict[str, list[dict]] = {}
        self.hands: dict[str, int] = {}
        self.trained: list[str] = []

    def take(self) -> None:
        cohort = self.queue.take()
        if cohort is not None:
            self.waiting[cohort], self.hands[cohort] = None, 0

    def step(self, cohort: str, *, sees_hands: bool) -> None:
        if self.waiting[cohort] is None:
            self.queue.begin(cohort)
            self.waiting[cohort] = self.store.cohort("s", cohort)["members"]
        while sees_hands:
            try:
                more = self.store.cohort("s", hand_name(cohort, self.hands[cohort] + 1))["members"]
            except FileNotFoundError:
                break
            self.waiting[cohort] += more
            self.hands[cohort] += 1
        done, self.waiting[cohort] = self.waiting[cohort][:3], self.waiting[cohort][3:]
        self.trained += [str(member) for member in done]
        left, over = len(self.waiting[cohort]), not self.waiting[cohort]
        self.queue.hear(
            Pulse(cohort=cohort, running=min(4, left), waiting=max(0, left - 4), hands=self.hands[cohort], over=over)
        )
        if over:
            del self.waiting[cohort]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), workers=st.integers(1, 5), width=st.integers(1, 9))
def test_every_run_is_trained_once_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, workers: int, width: int
):
    folder, rng = tmp_path_factory.mktemp("q"), random.Random(seed)
    store, runs = Store.create(folder / "store"), small(folder, "replicates=30").runs[:n]
    cohorts = pack(runs, outlook=Outlook(width=width), workers=workers)
    queue = CohortQueue(store=store, sweep="s", cohorts=cohorts, settings=SETTINGS)
    crew = Crew(queue, store)
    for _ in range(100 * n):
        if len(crew.waiting) < workers + 1 and rng.random() < 0.5:
            crew.take()
        elif crew.waiting:
            crew.step(rng.choice(list(crew.waiting)), sees_hands=rng.random() < 0.7)
        if queue.is_over:
            break
    assert queue.is_over
    assert sorted(crew.trained) == sorted(str(run.model_dump(mode="json")) for run in runs)
