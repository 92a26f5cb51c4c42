"""A few faults of every family, and a checker that would see if something were lost; `make chaos` has the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow.compute as pc
import pytest

from analysis.files import read_parquet, write_parquet
from analysis.store import Store
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep
from tests.chaos import bench, results
from tests.chaos.families import ALL, CHEAP
from tests.chaos.invariants import Undisturbed
from tests.chaos.questions import QUESTIONS
from tests.chaos.scene import Fault, Suffered

SEED = 11


def a_few() -> list[Fault]:
    """Two kinds of each family that can be had here."""
    rng, found = Random(SEED), []
    for family in sorted({fault.family for fault in CHEAP}):
        kinds = [fault for fault in CHEAP if fault.family == family and not fault.needs()]
        found += rng.sample(kinds, min(2, len(kinds)))
    return found


def test_a_few_faults_of_every_family_are_survived() -> None:
    suffered = bench.run(a_few(), seed=SEED, tell=lambda at, one: None)
    assert [f"{one.fault.family}, {one.fault.kind}: {one.problems}" for one in suffered if one.problems] == []
    assert len({one.fault.family for one in suffered}) >= 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Undisturbed, Path]:
    folder = tmp_path_factory.mktemp("calm")
    (folder / "trained.yaml").write_text(QUESTIONS["trained"])
    run_sweep(
        load_sweep(folder / "trained.yaml"), store_path=folder / "store", launcher="inline", width=4, device="cpu"
    )
    return Undisturbed(folder / "store"), folder / "store"


def block(store: Path, part: str) -> Path:
    return sorted((store / part).glob("*.parquet"))[0]


def lose(store: Path) -> None:
    for part in ("runs", "metrics", "digests"):
        block(store, part).unlink()


def double(store: Path) -> None:
    for part in ("runs", "metrics"):
        path = block(store, part)
        shutil.copy(path, path.with_name(f"{path.stem}0.parquet"))


def change_a_value(store: Path) -> None:
    path = block(store, "metrics")
    table = read_parquet(path)
    at = table.schema.get_field_index("loss")
    write_parquet(path, table.set_column(at, table.schema.field(at), pc.add(table["loss"], 1e-6).cast("float32")))


def change_a_row(store: Path) -> None:
    path = block(store, "runs")
    table = read_parquet(path)
    at = table.schema.get_field_index("steps")
    write_parquet(path, table.set_column(at, table.schema.field(at), pc.subtract(table["steps"], 1)))


def lose_a_snapshot(store: Path) -> None:
    sorted((store / "snapshots").glob("*.npz"))[0].unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose, "lost"),
        (double, "2 ledger rows"),
        (change_a_value, "not that of the undisturbed run"),
        (change_a_row, "steps is"),
        (lose_a_snapshot, "snapshot"),
    ],
)
def test_the_checker_sees(
    finished: tuple[Undisturbed, Path], tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    calm, path = finished
    store = tmp_path / "store"
    shutil.copytree(path, store)
    assert calm.objections(store, is_done=True) == []
    spoil(store)
    assert any(words in problem for problem in calm.objections(store, is_done=True))


def test_nothing_is_objected_to_a_store_that_is_half_done(finished: tuple[Undisturbed, Path], tmp_path: Path) -> None:
    calm, path = finished
    store = tmp_path / "store"
    shutil.copytree(path, store)
    lose(store)
    assert calm.objections(store, is_done=False) == []
    assert len(Store(store).statuses()) < len(calm.runs)


def test_a_schedule_is_its_seeds_and_has_every_kind_as_often() -> None:
    drawn = bench.schedule(ALL, n=3 * len(ALL), seed=1)
    assert drawn == bench.schedule(ALL, n=3 * len(ALL), seed=1)
    assert drawn != bench.schedule(ALL, n=3 * len(ALL), seed=2)
    assert {drawn.count(fault) for fault in ALL} == {3}


def test_every_kind_has_a_name_of_its_own() -> None:
    names = [(fault.family, fault.kind) for fault in ALL]
    assert len(names) == len(set(names))


def test_notes_are_gone_on_from_and_those_of_another_schedule_are_refused(tmp_path: Path) -> None:
    notes, faults = tmp_path / "notes", list(CHEAP[:2])
    lines = [Suffered(fault, problems=["no"], recovery_s=0.5, repeated_steps=7).record() for fault in faults]
    notes.write_text("".join(json.dumps({"at": at, **line}) + "\n" for at, line in enumerate(lines)))
    assert [one.record() for one in bench._noted(faults, notes).values()] == lines
    with pytest.raises(SystemExit, match="is of another schedule"):
        bench._noted(faults[::-1], notes)


def test_the_page_counts_by_kind_and_keeps_what_was_written_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE", tmp_path / "RESULTS.md")
    fault = CHEAP[0]
    found = [Suffered(fault, recovery_s=1.0, repeated_steps=4), Suffered(fault, ["lost <a run>"], 3.0, 8)]
    results.PAGE.write_text(f"old\n{results.MARK}\nDefects\n")
    results.write(results.page(found, seed=3, asked=2, dear=0, left_out=["clocks: no compiler"]))
    text = results.PAGE.read_text()
    assert f"| {fault.family} | {fault.kind} | 2 | 1 | 2.00 | 3.00 | 6 | 8 |" in text
    assert "Not survived: fault 2" in text
    assert "lost &lt;a run>" in text
    assert text.endswith("\nDefects\n")
    assert "old" not in text
