"""The study: every trial once, whatever ends the process that writes it; and every sampler keeps to its space."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from searches import ask_and_tell, open_book, search_text, small_search, space_of

from analysis.appended import Appended, check_appended
from orchestrator.errors import BadRequest
from orchestrator.search.objectives import Score
from orchestrator.search.samplers import SAMPLERS, check_options, make_sampler, option_types
from orchestrator.search.space import Space

VALUES = [0.1, 0.9, 0.4, 0.6, 0.2, 0.8, 0.3, 0.7, 0.5, 0.65, 0.15, 0.85]


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return space_of(tmp_path)


@pytest.fixture
def finite(tmp_path: Path) -> Space:
    text = search_text("  name: brute_force\n  space: {model.width: [2, 4], optim.lr: [0.1, 0.01]}\n  objective: rmst")
    return small_search(tmp_path, text=text).search.space  # type: ignore[union-attr]


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_sampler_asks_points_of_the_space_and_the_same_first_batch(
    sampler: str, space: Space, finite: Space, tmp_path: Path
) -> None:
    used = finite if sampler == "brute_force" else space
    batches = []
    for i, seed in enumerate((0, 0, 1)):
        book = open_book(tmp_path / f"{i}", used, sampler=sampler, seed=seed)
        batches.append([book.ask(round_=1, replicates=range(2)).params for _ in range(4)])
        book.close()
    assert batches[0] == batches[1]
    assert all(used.holds(params) for batch in batches for params in batch)
    if sampler not in ("brute_force", "qmc"):  # the one has no luck, the other's sequence is not scrambled
        assert batches[0] != batches[2]


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"brute_force"}))
def test_a_sampler_goes_on_where_the_study_stands(sampler: str, space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space, sampler=sampler)
    before = ask_and_tell(book, VALUES[:6])
    book.close()
    book = open_book(tmp_path / "s", space, sampler=sampler)
    after = ask_and_tell(book, VALUES[6:], first=7)
    assert [trial.params for trial in book.trials.values()] == before + after
    assert [trial.scores["p_eureka"].value for trial in book.trials.values()] == VALUES
    assert not [params for params in after if params in before]
    book.close()


def test_brute_force_asks_every_point_once(finite: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", finite, sampler="brute_force")
    asked = ask_and_tell(book, VALUES[:4])
    assert sorted(map(finite.key, asked)) == sorted(map(finite.key, finite.points()))
    book.close()


def test_further_configs_of_a_shape_are_asked_with_its_values(space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space, sampler="tpe")
    for width in (4, 2, 4):
        assert book.ask(round_=1, replicates=range(2), fixed={"model.width": width}).params["model.width"] == width
    book.close()


def test_what_was_told_comes_back_whole(space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space)
    for number, reason in enumerate(("", "every run failed")):
        trial = book.ask(round_=3, replicates=range(2, 6))
        book.confirm(trial.number, config_id=f"config{number}")
        scores = {} if reason else {"p_eureka": Score(value=0.3, low=0.1, high=0.6), "rmst": Score(value=7.0)}
        book.tell(trial.number, scores=scores, constraints={"rmst <= 9": -2.0}, runs=4, events=1, reason=reason)
    kept = dict(book.trials)
    book.close()
    again = open_book(tmp_path / "s", space)
    for number, trial in kept.items():
        found = again.trials[number]
        for name in ("state", "params", "config_id", "replicates", "round", "scores", "runs", "events", "reason"):
            assert getattr(found, name) == getattr(trial, name)
        assert found.asked_at is not None
        assert trial.asked_at is not None
        assert abs((found.asked_at - trial.asked_at).total_seconds()) < 60
    again.close()


def test_telling_twice_changes_nothing(space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space)
    trial = book.ask(round_=1, replicates=range(2))
    book.confirm(trial.number, config_id="config")
    book.tell(trial.number, scores={"p_eureka": Score(value=0.3)})
    book.tell(trial.number, scores={"p_eureka": Score(value=0.5)})
    assert book.trials[trial.number].scores == {"p_eureka": Score(value=0.3)}
    book.trials[trial.number].state = "running"  # as if the first telling had not been heard of
    book.tell(trial.number, scores={"p_eureka": Score(value=0.9)})
    book.close()
    again = open_book(tmp_path / "s", space)
    assert again.trials[0].scores == {"p_eureka": Score(value=0.3)}
    again.close()


def test_a_trial_that_was_not_wholly_asked_fails_and_the_others_are_pending(space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space)
    whole = book.ask(round_=1, replicates=range(2))
    book.confirm(whole.number, config_id="config")
    book.ask(round_=1, replicates=range(2))
    book.close()
    again = open_book(tmp_path / "s", space)
    assert [trial.number for trial in again.pending()] == [whole.number]
    assert [(trial.state, trial.reason) for trial in again.trials.values()] == [
        ("running", ""),
        ("failed", "the driver ended while it was asked"),
    ]
    again.close()


def test_a_torn_last_line_and_a_dead_writers_lock_are_settled(space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space)
    ask_and_tell(book, VALUES[:2])
    book.close()
    journal = tmp_path / "s" / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    (tmp_path / "s" / "study.journal.lock").symlink_to(journal)
    again = open_book(tmp_path / "s", space)
    assert ask_and_tell(again, VALUES[2:3], first=3)
    again.close()
    assert journal.read_bytes().startswith(whole)
    assert open_and_count(journal) == 3


def test_a_study_that_lost_what_was_written_is_refused_in_one_line(space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space)
    ask_and_tell(book, VALUES[:2])
    book.close()
    journal = tmp_path / "s" / "study.journal"
    whole = journal.read_bytes()
    last_line = whole.rstrip(b"\n").rfind(b"\n") + 1
    for damaged in (whole[:last_line], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        journal.write_bytes(damaged)
        with pytest.raises(BadRequest, match=r"study\.journal: not readable .*`eureka doctor --repair` sets it aside"):
            open_book(tmp_path / "s", space)
        assert journal.read_bytes() == damaged
    journal.write_bytes(whole)
    open_book(tmp_path / "s", space).close()


def test_a_line_that_somebody_else_left_half_written_is_no_damage(space: Space, tmp_path: Path) -> None:
    journal = tmp_path / "s" / "study.journal"
    book = open_book(tmp_path / "s", space)
    with journal.open("ab") as handle:
        handle.write(b'{"op_code": 4, "wor')
    check_appended(journal)
    Appended(journal).grown()
    book.close()
    open_book(tmp_path / "s", space).close()
    assert check_appended(journal)


def open_and_count(journal: Path) -> int:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    return len(optuna.load_study(study_name="s", storage=storage).trials)


def test_a_second_driver_is_refused_and_told_who_drives(space: Space, tmp_path: Path) -> None:
    book = open_book(tmp_path / "s", space)
    with pytest.raises(BadRequest, match=rf"^s: its search is driven by process {os.getpid()} on .* already"):
        open_book(tmp_path / "s", space)
    book.close()
    open_book(tmp_path / "s", space).close()


def test_a_killed_driver_holds_nothing(space: Space, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    program = "from orchestrator.search.journal import locked; from pathlib import Path; import os, sys, signal\n"
    program += "locked(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "s")], check=False, cwd=Path(__file__).parents[3])
    open_book(tmp_path / "s", space).close()


def test_a_study_of_another_space_is_refused(space: Space, tmp_path: Path) -> None:
    open_book(tmp_path / "s", space).close()
    other = space_of(tmp_path, "search.space.optim.lr={log_range: [1e-4, 1e-1]}")
    with pytest.raises(BadRequest, match=r"study s is of another space: begun with .*Give the sweep another `name`"):
        open_book(tmp_path / "s", other)
    open_book(tmp_path / "s", space).close()  # the refusal left it unlocked


def test_a_study_that_is_not_a_searchs_is_refused(space: Space, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    url = f"sqlite:///{tmp_path}/foreign.db"
    study = optuna.create_study(study_name="s", storage=url, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(BadRequest, match=r"study s is of another study: it was not begun by a search"):
        open_book(tmp_path / "s", space, url=url)


def test_a_study_lives_in_sqlite_as_in_a_journal(space: Space, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    book = open_book(tmp_path / "s", space, url=url, sampler="tpe")
    asked = ask_and_tell(book, VALUES[:3])
    book.close()
    again = open_book(tmp_path / "s", space, url=url, sampler="tpe")
    assert [trial.params for trial in again.trials.values()] == asked
    again.close()
    assert not (tmp_path / "s" / "study.journal").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:1/db", r"\*\*\*@127.0.0.1:1/db: search.storage: cannot be reached"),
        ("nodb://host/x", r"search.storage: .*nodb; install its driver"),
        ("sqlite:////no/such/folder/study.db", r"search.storage: cannot be reached: .*unable to open"),
        ("hello", r"^search.storage: got 'hello'; expected an address such as sqlite:///"),
    ],
)
def test_an_unreachable_database_is_one_line_without_the_password(
    url: str, message: str, space: Space, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        open_book(tmp_path / "s", space, url=url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    open_book(tmp_path / "s", space).close()  # unlocked


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_option_offered_is_taken_by_the_sampler(sampler: str) -> None:
    for option, kinds in option_types(sampler).items():
        value = {(int,): 8, (int, float): 1, (bool,): True, (str,): "halton" if option == "qmc_type" else "x"}[kinds]
        if not (sampler == "tpe" and option == "group") and option != "restart_strategy":
            make_sampler(sampler, options={option: value})
            assert check_options(sampler, {option: value}) is None
        assert check_options(sampler, {option: [value]}) is not None
