"""A store that a command was killed over while it made it, and an empty folder, are made stores by the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.places.place import is_there
from analysis.store import Store
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep
from tests.chaos.questions import QUESTIONS


def empty(store: Path) -> None:
    store.mkdir()


def killed_before_the_marker(store: Path) -> None:
    store.mkdir()
    (store / ".lock").touch()


def killed_over_the_marker(store: Path) -> None:
    killed_before_the_marker(store)
    (store / ".eureka.json.0badcafe.tmp").write_bytes(b"{")


def killed_after_the_marker(store: Path) -> None:
    Store.create(store)
    for part in store.iterdir():
        if part.is_dir():
            part.rmdir()


BEGINNINGS = (empty, killed_before_the_marker, killed_over_the_marker, killed_after_the_marker)


@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda do: do.__name__)
def test_the_same_command_goes_on(tmp_path: Path, begin: Callable[[Path], None]) -> None:
    path, store = tmp_path / "declared.yaml", tmp_path / "store"
    path.write_text(QUESTIONS["declared"])
    sweep = load_sweep(path, overrides=["replicates=1", "base.budget.steps=40"])
    begin(store)
    assert run_sweep(sweep, store_path=store, launcher="inline", device="cpu").trained == 3


def test_a_folder_with_something_else_in_it_is_there_and_no_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert is_there(tmp_path)
    assert not is_there(tmp_path / "nothing")
