"""Snapshots in a store: whole or not there, and checked like everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.errors import StoreError
from analysis.store import Store
from analysis.upkeep import check

RUN = "0123456789abcdef"
WEIGHTS = {"embed.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.bias": np.zeros(2, np.float32)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "a store")


def test_a_snapshot_is_read_as_it_was_written(store: Store):
    store.snapshots.save(RUN, 500, WEIGHTS)
    store.snapshots.save(RUN, 0, WEIGHTS)
    store.snapshots.save(RUN, 0, WEIGHTS)
    found = store.snapshots.load(RUN, 500)
    assert found.keys() == WEIGHTS.keys()
    assert all(np.array_equal(found[name], WEIGHTS[name]) for name in WEIGHTS)
    assert store.snapshots.steps(RUN) == [0, 500]
    assert check(store) == []


def test_a_snapshot_that_is_not_there_is_told_with_those_that_are(store: Store):
    store.snapshots.save(RUN, 7, WEIGHTS)
    with pytest.raises(StoreError, match=r"after 8 updates; there are: 7\."):
        store.snapshots.load(RUN, 8)
    with pytest.raises(StoreError, match="there are: none"):
        store.snapshots.load("f" * 16, 8)


@pytest.mark.parametrize("kept", [0, 100, 400])
def test_doctor_finds_a_torn_snapshot(store: Store, kept: int):
    store.snapshots.save(RUN, 7, WEIGHTS)
    path = store.snapshots.path(RUN, 7)
    path.write_bytes(path.read_bytes()[:kept])
    [problem] = check(store)
    assert problem.startswith(f"snapshots/{RUN}-7.npz: damaged")


def test_nothing_in_a_snapshot_is_executed(store: Store):
    path = store.snapshots.path(RUN, 7)
    path.parent.mkdir()
    np.savez(path, bad=np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="not readable"):
        store.snapshots.load(RUN, 7)


def test_a_store_that_takes_no_more_says_so(store: Store):
    (store.path / "snapshots").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        store.snapshots.save(RUN, 7, WEIGHTS)
