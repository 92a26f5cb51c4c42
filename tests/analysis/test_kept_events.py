"""EVENTS kept in the store: what is kept is what would be found, whatever has come, gone or changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis.kept_events
from analysis.detect import EVENTS_SCHEMA, detector_named, stored_events
from analysis.errors import AnalysisError, NoSuchColumn
from analysis.files import write_parquet
from analysis.rows import curve
from analysis.store import Store
from analysis.study import open_study
from analysis.upkeep import check, compact
from tests.analysis.ledger import TYPES, row

LEVELS = {"level.loss_plateau": 1.0, "level.loss_floor": 0.0}


def add(store: Store, *runs: str, metric: str = "loss", **more: Any) -> None:
    """Commit runs whose loss falls at a step that their name fixes, after every third name not at all."""
    curves, rows = [], []
    for run in runs:
        rng, steps = np.random.default_rng([*run.encode()]), 600 + 8 * (ord(run[-1]) % 7)
        at = rng.integers(200, 400) if ord(run[-1]) % 3 else 2 * steps
        loss = np.where(np.arange(steps) < at, 1.0, 0.1) + rng.normal(0, 0.05, steps)
        curves.append(curve(run, {metric: loss.astype(np.float32)}, np.zeros(0, np.int64), {}))
        rows.append(row(run, steps=steps, **LEVELS, **more))
    store.commit(rows, curves, types=TYPES)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "s")
    for block in ("abc", "def", "ghi"):
        add(made, *block)
    return made


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Which runs were judged, a list a time."""
    calls, judge = list[list[str]](), analysis.kept_events.events_of

    def counted(digest: pl.DataFrame, *, runs: pl.DataFrame, **more: Any) -> pl.DataFrame:
        calls.append(runs["run_id"].to_list())
        return judge(digest, runs=runs, **more)

    monkeypatch.setattr(analysis.kept_events, "events_of", counted)
    return calls


def fresh(store: Store, **options: Any) -> pl.DataFrame:
    """EVENTS without anything kept."""
    for path in store.files("events"):
        path.unlink()
    return stored_events(store, **options)


def test_events_by_parts_are_those_of_the_whole(tmp_path: Path, store: Store) -> None:
    parts = Store.create(tmp_path / "parts")
    for block in ("abc", "def", "ghi"):
        add(parts, *block)
        stored_events(parts)
    assert set(stored_events(store)["status"]) == {"eureka", "censored"}
    assert stored_events(parts).equals(stored_events(store))
    assert stored_events(parts).schema == EVENTS_SCHEMA


def test_a_run_is_judged_once(store: Store, judged: list[list[str]]) -> None:
    first = stored_events(store)
    assert stored_events(store).equals(first)
    assert stored_events(Store(store.path), run_ids=["b", "h"]).equals(first.filter(pl.col("run_id").is_in(["b", "h"])))
    add(store, "x", "y")
    assert stored_events(store).filter(pl.col("run_id") < "x").equals(first)
    stored_events(store)
    assert judged == [list("abcdefghi"), ["x", "y"]]


def test_a_study_takes_what_is_kept_and_keeps_what_it_finds(store: Store, judged: list[list[str]]) -> None:
    record = {"question": "", "axes": {}, "replicates": 1, "horizon_steps": 700, "yaml": ""}
    store.save_sweep(record | {"name": "some", "runs": list("ahz")})
    store.save_sweep(record | {"name": "all", "runs": list("abcdefghi")})
    some = open_study(store, sweep="some").events
    every = open_study(store, sweep="all").events
    assert judged == [["a", "h"], list("bcdefgi")]
    assert some["run_id"].to_list() == ["a", "h"]
    assert every.select(list(EVENTS_SCHEMA)).equals(fresh(store))
    with_other = open_study(store, sweep="all", detector="level-1").events
    assert with_other["detector"].unique().to_list() == ["level-1"]


@pytest.mark.parametrize("other", ["definition", "code", "damaged", "strange", "empty"])
def test_what_is_kept_of_something_else_counts_for_nothing(
    store: Store, judged: list[list[str]], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    expected, path = stored_events(store), store.events_path("contrast-1")
    if other in ("definition", "code"):
        of_before = pq.read_table(path)
        failed = pa.array(["failed"] * len(of_before), pa.large_string())
        lies = of_before.set_column(2, of_before.schema.field(2).with_type(failed.type), failed)
        pq.write_table(lies.replace_schema_metadata({b"events_key": b"another"}), path)
    elif other == "strange":
        strange = pl.DataFrame({"run_id": ["a"]}).to_arrow(compat_level=pl.CompatLevel.oldest())
        key = analysis.kept_events.key_of(detector_named("contrast-1"))
        pq.write_table(strange.replace_schema_metadata({b"events_key": key}), path)
    else:
        path.write_bytes(path.read_bytes()[:-60] if other == "damaged" else b"")
    assert stored_events(store).equals(expected)
    assert len(judged) == 2
    assert stored_events(store).equals(expected)
    assert len(judged) == 2


def test_the_key_tells_definitions_code_and_packages_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, key_of = detector_named("contrast-1"), analysis.kept_events.key_of.__wrapped__
    before = key_of(detector)
    assert key_of(detector) == before
    assert key_of(detector_named("level-1")) != before
    with monkeypatch.context() as patch:
        patch.setattr(analysis.kept_events, "code_hash", lambda: "other")
        assert key_of(detector) != before
    with monkeypatch.context() as patch:
        patch.setattr(analysis.kept_events, "version", lambda name: "0")
        assert key_of(detector) != before


def test_a_detector_that_is_not_registered_is_never_kept(store: Store, judged: list[list[str]]) -> None:
    own = detector_named("contrast-1").reading("loss", floor=0.0)
    assert stored_events(store, detector=own).equals(stored_events(store, detector=own))
    assert len(judged) == 2
    assert store.files("events") == []


def test_a_merge_takes_what_is_kept_along(store: Store, judged: list[list[str]]) -> None:
    expected = stored_events(store)
    compact(store)
    assert len(store.blocks()) == 1
    assert stored_events(Store(store.path)).equals(expected)
    assert len(judged) == 1
    assert check(store) == []


def test_a_failed_run_that_is_trained_again_is_judged_again(store: Store) -> None:
    store.commit([row("x", status="failed", **LEVELS)], [], types=TYPES)
    assert stored_events(store).filter(run_id="x")["status"].to_list() == ["failed"]
    store.forget_failed(["x"])
    assert "x" not in stored_events(store)["run_id"]
    add(store, "x")
    assert stored_events(store).filter(run_id="x")["status"].to_list() != ["failed"]
    assert stored_events(store).equals(fresh(store))


def test_few_new_runs_are_judged_again_rather_than_written(store: Store, judged: list[list[str]]) -> None:
    add(store, *(f"q{chr(65 + i)}{chr(97 + j)}" for i in range(10) for j in range(10)))
    stored_events(store)
    stamp = store.events_path("contrast-1").stat().st_mtime_ns
    add(store, "x")
    stored_events(store)
    assert stored_events(store).equals(fresh(store))
    assert store.events_path("contrast-1").stat().st_mtime_ns != stamp  # `fresh` wrote it
    assert judged[1:3] == [["x"], ["x"]]


def test_an_old_store_without_the_folder_and_one_not_to_be_written_are_read(
    store: Store, judged: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(analysis.kept_events, "made", refuse)
        expected = stored_events(store)
    assert not (store.path / "events").exists()
    assert stored_events(store).equals(expected)
    assert len(judged) == 2


def test_new_runs_that_a_detector_cannot_read_are_no_worse_beside_kept_ones(store: Store) -> None:
    """Alone they would be refused, since none of them has the metric; beside others they were not, and are not."""
    expected = stored_events(store)
    add(store, "y", metric="other", status="diverged")
    with_it = stored_events(store)
    assert with_it.equals(fresh(store))
    assert with_it.filter(pl.col("run_id") != "y").equals(expected)
    with pytest.raises(NoSuchColumn):
        stored_events(store, run_ids=["y"])


def test_a_refusal_stays_one_whatever_is_kept(store: Store) -> None:
    stored_events(store)
    add(store, "z", metric="other")
    with pytest.raises(AnalysisError):
        stored_events(store)


def test_doctor_tells_what_is_kept_from_what_is_true(store: Store) -> None:
    stored_events(store)
    assert check(store) == []
    path, key = store.events_path("contrast-1"), analysis.kept_events.KEY
    table = pq.read_table(path)
    at = table.schema.get_field_index("eureka_step")
    wrong = table.set_column(at, table.schema.field(at), [[1.0] * len(table)])
    write_parquet(path, wrong.replace_schema_metadata({key: table.schema.metadata[key]}))
    (problem,) = check(store)
    assert problem.startswith("events/contrast-1.parquet: is not what contrast-1 says of the digests; remove the file")
    path.write_bytes(b"PAR1")
    assert "not readable" in check(store)[0]
    path.rename(path.with_name("unheard-of.parquet"))
    assert "of no detector that is known here" in check(store)[0]


def test_the_live_page_takes_over_what_is_kept_as_its_files_are_read(
    store: Store, judged: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.serve import ledger as live

    expected = stored_events(store)
    add(store, "x")
    judge, own = live.events_of, list[list[str]]()

    def counted(digest: pl.DataFrame, *, runs: pl.DataFrame, **more: Any) -> pl.DataFrame:
        own.append(runs["run_id"].to_list())
        return judge(digest, runs=runs, **more)

    monkeypatch.setattr(live, "events_of", counted)
    page = live.Ledger(store, detector=detector_named("contrast-1"))
    while page.unread or not page.rows.height or page.pending:
        page.read_new(most_s=0.0)  # a file at a time
        page.judge_some()
    found = page.events.filter(pl.col("run_id") != "x").sort("run_id")
    assert found.select(list(EVENTS_SCHEMA)).equals(expected)
    assert own == [["x"]]
    by_itself = live.Ledger(store, detector=detector_named("contrast-1"))
    by_itself._kept = expected.clear()
    by_itself.read_new()
    while by_itself.judge_some():
        pass
    assert by_itself.events.sort("run_id").equals(page.events.sort("run_id"))
