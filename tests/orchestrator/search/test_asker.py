"""The side thread, what joins it to the queue, and the budget that ends the asking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from searches import open_book, small_search

from analysis.store import Store
from orchestrator.outlook import Outlook
from orchestrator.packing import pack
from orchestrator.pulse import Pulse
from orchestrator.queue import CohortQueue
from orchestrator.search.asker import Asker, Budget, News
from orchestrator.search.feed import Feed
from orchestrator.search.proposal import Answer, Outcome, Proposal
from orchestrator.search.request import Search
from orchestrator.search.rows import Row, Rows
from orchestrator.search.storage import Away
from orchestrator.search.study import Book


class Scripted:
    """A strategy that asks for what a test gives it."""

    def __init__(self, ask: Callable[[int], list[Proposal]] = lambda most: [], *, over: bool = False):
        self._ask, self.over = ask, over
        self.told: list[int] = []

    def ask(self, *, most_runs: int) -> list[Proposal]:
        return self._ask(most_runs)

    def tell(self, answer: Answer) -> None:
        self.told.append(answer.proposal.trial)

    def recall(self, proposal: Proposal) -> None:
        pass

    def remind(self, answer: Answer) -> None:
        pass

    @property
    def is_over(self) -> bool:
        return self.over


def proposal(trial: int, *, width: int = 2) -> Proposal:
    params = {"model.width": width, "optim.lr": 1e-3 * (trial + 1), "model.attention.temperature": 1.0}
    return Proposal(trial=trial, params=params, replicates=range(2))


def outcome(replicate: int, *, steps: int = 60) -> Outcome:
    return Outcome(replicate=replicate, status="finished", event_step=9, steps=steps, budget=60, final_loss=None)


@pytest.fixture
def wanted(tmp_path: Path) -> Search:
    search = small_search(tmp_path).search
    assert search is not None
    return search


def asker_of(strategy: Scripted, wanted: Search, tmp_path: Path) -> tuple[Asker, Book]:
    store = Store.create(tmp_path / "store")
    book = open_book(tmp_path / "book", wanted.space)
    made = Asker(
        strategy, book=book, space=wanted.space, asked=wanted.asked, budget=Budget(wanted.asked), store=store,
        sweep="small", budget_steps=60,
    )  # fmt: skip
    return made, book


def heard(asker: Asker) -> list[News]:
    return asker.news(wait_s=30.0)


def test_a_fault_in_a_strategy_is_one_line_and_ends_the_search(wanted: Search, tmp_path: Path) -> None:
    def broken(most: int) -> list[Proposal]:
        raise ZeroDivisionError("of all things")

    asker, book = asker_of(Scripted(broken), wanted, tmp_path)
    asker.start(given=set())
    asker.ask(most_runs=4)
    assert heard(asker) == [News(fault="search: ZeroDivisionError: of all things", is_over=True)]
    asker.stop()
    book.close()


def test_a_database_that_comes_back_is_waited_for_and_asked_again(
    wanted: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.search.asker.RETRY_S", 0.01)
    calls: list[int] = []

    def away_at_first(most: int) -> list[Proposal]:
        calls.append(most)
        if len(calls) == 1:
            trial = book.ask(round_=1, replicates=range(2))  # written, and never heard of
            book.confirm(trial.number, config_id="config")
            raise Away("gone")
        return [proposal(7)]

    asker, book = asker_of(Scripted(away_at_first), wanted, tmp_path)
    asker.start(given=set())
    asker.ask(most_runs=4)
    news = heard(asker)
    while not any(one.is_answer for one in news):
        news += heard(asker)
    assert [one.trial for each in news for one in each.proposals] == [0, 7]
    assert calls == [4, 4]
    asker.stop()
    book.close()


def test_answers_are_told_before_the_thread_ends(wanted: Search, tmp_path: Path) -> None:
    strategy = Scripted()
    asker, book = asker_of(strategy, wanted, tmp_path)
    asker.start(given=set())
    for trial in range(5):
        asker.tell(Answer(proposal=proposal(trial), outcomes=(outcome(0),)))
    asker.stop()
    assert strategy.told == list(range(5))
    assert Store(tmp_path / "store").trials("small") is not None
    book.close()


def test_a_budget_says_how_many_runs_are_left(tmp_path: Path) -> None:
    def left(*overrides: str, spent: float = 0.0, out: float = 0.0, worked_s: float = 0.0) -> float:
        search = small_search(tmp_path, *overrides).search
        assert search is not None
        book = open_book(tmp_path / "book", search.space)
        budget = Budget(search.asked, worked_s=worked_s)
        budget.spent, budget.out[0] = spent, out
        found = budget.runs_left(book, replicates=2, budget_steps=60)
        book.close()
        return found

    assert left() == 12  # 6 configs × 2
    assert left("search.run_steps=600") == 10
    assert left("search.run_steps=600", spent=200, out=120) == 4
    assert left("search.run_steps=600", spent=600) == 0
    assert left("search.hours=1", worked_s=3599) == 12
    assert left("search.hours=1", worked_s=3601) == 0


class Deaf:
    """An asker that notes what it is told."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.told: list[Answer] = []
        self.next: list[News] = []

    def ask(self, *, most_runs: int) -> None:
        self.asked.append(most_runs)

    def tell(self, answer: Answer) -> None:
        self.told.append(answer)

    def news(self, *, wait_s: float = 0.0) -> list[News]:
        found, self.next = self.next, []
        return found


@pytest.fixture
def joined(wanted: Search, tmp_path: Path) -> tuple[Feed, Deaf, CohortQueue, list[list[str]]]:
    store, asker, members = Store.create(tmp_path / "store"), Deaf(), list[list[str]]()
    feed = Feed(
        asker,  # type: ignore[arg-type]
        space=wanted.space, rows=Rows(store), outlook=Outlook(width=2), workers=1, slots=2, batch_runs=4,
        reads_loss=False, on_members=lambda runs: members.append(list(runs)),
    )  # fmt: skip
    queue = CohortQueue(store=store, sweep="small", cohorts=(), settings={"device": "cpu"}, source=feed)
    return feed, asker, queue, members


def ends(feed: Feed, *runs: str) -> None:
    for run in runs:
        feed._rows.by_run[run] = Row(
            run_id=run, config_id="c", status="finished", steps=60, event_step=9, budget=60, block="b"
        )
    feed.settle(runs)


Joined = tuple[Feed, Deaf, CohortQueue, list[list[str]]]


def test_more_is_asked_while_fewer_runs_are_open_than_fill_the_slots_twice(joined: Joined) -> None:
    feed, asker, queue, members = joined
    assert queue.take() is None
    assert (asker.asked, queue.is_over) == ([4], False)  # asked once, and the queue waits
    assert queue.take() is None
    assert asker.asked == [4]
    asker.next = [News(proposals=(proposal(0),), is_answer=True)]
    assert queue.take() is not None
    assert (feed.open_runs, asker.asked) == (2, [4, 4])
    asker.next = [News(proposals=(proposal(1),), is_answer=True)]
    feed.poll(queue)
    assert (feed.open_runs, asker.asked) == (4, [4, 4])  # two fillings of two slots
    assert [len(found) for found in members] == [2, 4]


def test_new_runs_join_a_cohort_that_trains_already(joined: Joined) -> None:
    _feed, asker, queue, _ = joined
    asker.next = [News(proposals=(proposal(0),), is_answer=True)]
    cohort = queue.take()
    assert cohort is not None
    asker.next = [News(proposals=(proposal(1), proposal(2, width=4)), is_answer=True)]
    queue.hear(Pulse(cohort=cohort, running=2, waiting=0))
    assert len(queue.out[cohort].hands[0]) == 2
    assert {run.model.width for run in queue.out[cohort].plan.members} == {2}
    assert [plan.members[0].model.width for plan in queue.ready] == [4]


def test_a_proposal_is_answered_when_its_last_run_ends(joined: Joined) -> None:
    feed, asker, _queue, _ = joined
    first, second = (run.run_id for run in feed.register(proposal(0)))
    ends(feed, second)
    assert asker.told == []
    ends(feed, first)
    assert [(one.proposal.trial, [run.replicate for run in one.outcomes]) for one in asker.told] == [(0, [0, 1])]
    assert feed.open_runs == 0


def test_the_same_config_asked_twice_is_trained_once_and_answered_twice(joined: Joined) -> None:
    feed, asker, _queue, _ = joined
    runs = feed.register(proposal(0))
    again = Proposal(trial=1, params=proposal(0).params, replicates=range(4))
    more = feed.register(again)
    assert (len(runs), len(more)) == (2, 2)
    ends(feed, *(run.run_id for run in (*runs, *more)))
    assert sorted(one.proposal.trial for one in asker.told) == [0, 1]
    assert feed.register(Proposal(trial=2, params=again.params, replicates=range(2))) == []
    assert [one.proposal.trial for one in asker.told][-1] == 2


def test_a_search_is_over_when_nothing_is_asked_and_all_is_answered(joined: Joined) -> None:
    feed, asker, queue, _ = joined
    asker.next = [News(proposals=(proposal(0),), is_answer=True), News(is_answer=True, is_over=True)]
    cohort = queue.take()
    assert cohort is not None
    assert feed.is_open
    ends(feed, *(run.run_id for run in queue.out[cohort].plan.members))
    assert not feed.is_open
    queue.hear(Pulse(cohort=cohort, over=True))
    assert queue.is_over


def test_nothing_more_is_asked_until_an_answer_comes(joined: Joined) -> None:
    feed, asker, queue, _ = joined
    asker.next = [News(proposals=(proposal(0),), is_answer=True)]
    queue.take()
    asker.next = [News(is_answer=True)]  # nothing now
    queue.take()
    assert asker.asked == [4]
    ends(feed, next(iter(feed._waiting)), *list(feed._waiting))
    queue.take()
    assert asker.asked == [4, 4]


def test_packed_runs_keep_to_their_shapes(wanted: Search) -> None:
    runs = [run for i in range(4) for run in wanted.space.runs(proposal(i, width=2 + 2 * (i % 2)))]
    for cohort in pack(runs, outlook=Outlook(width=4), workers=1):
        assert len({run.shape_key for run in cohort.members}) == 1
