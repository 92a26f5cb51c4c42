"""A store that somebody else made: nothing in it is executed, leads out of it, or ends in a traceback."""

from __future__ import annotations

import ast
import json
import pickle
import re
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger import TYPES, curve_of, row

from analysis.errors import AnalysisError, StoreError
from analysis.files import read_arrays, read_parquet, read_schema
from analysis.records import cohort_record, journal_record, named, sweep_record
from analysis.store import Store

ROOT = Path(__file__).parents[2]
HAPPENED: list[int] = []
PICKLES = r"(pickle|shelve|marshal|joblib|dill)\b"


def happen(n: int) -> None:
    HAPPENED.append(n)


class Planted:
    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return happen, (1,)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "a store")
    runs = ("aa00", "bb00")
    store.commit([row(run) for run in runs], [curve_of(run) for run in runs], types=TYPES)
    return store


# -- arrays --------------------------------------------------------------------------------------


def objects(path: Path) -> None:
    np.savez(path, **{"r/step": np.array([Planted()], dtype=object)}, allow_pickle=True)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Planted()))


def pickle_as_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("r/step.npy", pickle.dumps(Planted()))


@pytest.mark.parametrize("plant", [objects, bare_pickle, pickle_as_member])
def test_planted_pickle_is_not_executed(store: Store, plant: Callable[[Path], None]):
    checkpoint = store.path / "checkpoints" / "c.npz"
    plant(checkpoint)
    assert store.checkpoints.furthest() == {}
    state = store.checkpoints.load("r", checkpoint) or {}
    assert all(type(value) is bytes or value.dtype != object for value in state.values())
    store.checkpoints.drop_spent(store.statuses())
    (store.path / "snapshots").mkdir(exist_ok=True)
    plant(store.path / "snapshots" / "aa00-0.npz")
    if plant is not pickle_as_member:
        with pytest.raises(StoreError, match="not readable"):
            store.snapshots.load("aa00", 0)
    assert HAPPENED == []
    pickle.loads(pickle.dumps(Planted()))  # it would have been seen
    assert HAPPENED.pop() == 1


def test_packed_archive_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        for _ in range(256):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StoreError, match="is compressed, which eureka never writes"), read_arrays(path) as arrays:
        arrays["x"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


@pytest.mark.parametrize("shape", ["(10**18,)", "(2**62, 2**62)", "(-1,)", "(1.5,)"])
def test_array_that_claims_any_size_is_one_line(tmp_path: Path, shape: str):
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + b"1234")
    with pytest.raises(StoreError, match=r"x\.npz: not readable"), read_arrays(tmp_path / "x.npz") as arrays:
        arrays["x"]


def test_step_that_is_no_number_is_as_if_nothing_was_saved(store: Store):
    np.savez(store.path / "checkpoints" / "c.npz", **{"r/step": np.zeros((2, 2))})
    assert store.checkpoints.furthest() == {}


def test_packages_have_no_way_to_execute_a_file():
    """Neither pickles nor evaluation; torch.load, joblib and YAML's unsafe loaders are pickles by another name."""
    found = []
    for package in ("analysis", "orchestrator", "workloads"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                    found += [(path.name, name) for name in names if re.match(PICKLES, name)]
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    if called in ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"):
                        found.append((path.name, called))
                    if called in ("np.load", "numpy.load") and said.get("allow_pickle") != "False":
                        found.append((path.name, called))
    assert found == []


# -- ways out of the store -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "..", "/etc/x", "a/b", "", "a\0b", "-x", ".x", "a b"])
def test_name_that_is_a_way_out_is_none(store: Store, name: str):
    with pytest.raises(StoreError, match="expected letters, digits"):
        named(name, what="block")
    for path_of in (store.runs_path, store.metrics_path, store.digest_path, store.sweep_dir):
        with pytest.raises(StoreError, match="expected letters, digits"):
            path_of(name)
    with pytest.raises(StoreError, match="expected letters, digits"):
        store.snapshots.path(name, 0)


def test_journal_cannot_remove_files_elsewhere(store: Store, tmp_path: Path):
    stranger = tmp_path / "stranger.parquet"
    stranger.write_text("mine")
    for pending in (
        {"block": store.blocks()[0], "replaces": ["../../stranger"]},
        {"block": "../../stranger", "replaces": []},
        {"block": "gone", "replaces": "x"},
        {"block": None, "replaces": []},
        {},
    ):
        (store.path / ".pending").write_text(json.dumps(pending))
        with store.locked():
            assert not (store.path / ".pending").exists()
    assert stranger.read_text() == "mine"
    assert len(store.blocks()) == 1


GOOD = {"name": "s", "runs": ["aa00"], "axes": {"optim.lr": [1]}, "horizon_steps": 3, "question": "?"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "../../elsewhere"}, "name: got '../../elsewhere'; expected 's', as its folder is called"),
        ({"name": None}, "name: got None"),
        ({"runs": None}, "runs: got None; expected a list of run_ids"),
        ({"runs": [3]}, "runs: got"),
        ({"axes": [1]}, "axes: got"),
        ({"axes": {"a": 1}}, "axes: got"),
        ({"horizon_steps": -1}, "horizon_steps: got -1"),
        ({"horizon_steps": True}, "horizon_steps: got True"),
        ({"question": {"a": 1}}, "question: got"),
        ({"detector": []}, "detector: got"),
        ({"zipped": [["a", 1]]}, "zipped: got"),
    ],
)
def test_record_that_is_none_is_one_line(tmp_path: Path, change: dict[str, object], says: str):
    path = tmp_path / "s" / "sweep.json"
    assert sweep_record(dict(GOOD), path=path) == GOOD
    with pytest.raises(StoreError) as refused:
        sweep_record(GOOD | change, path=path)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


def test_cohort_and_journal_need_all_they_have(tmp_path: Path):
    cohort = {"members": [{}], "width": 1, "device": "cpu", "checkpoint_s": 1.0, "resumes": True}
    journal = {"block": "b", "replaces": []}
    for check, record in ((cohort_record, cohort), (journal_record, journal)):
        assert check(dict(record), path=tmp_path) == record
        for key in record:
            with pytest.raises(StoreError, match=f"{key}: got"):
                check({name: value for name, value in record.items() if name != key}, path=tmp_path)


# -- tables --------------------------------------------------------------------------------------


def renamed(table: pa.Table, old: str, new: str) -> pa.Table:
    return table.rename_columns([new if name == old else name for name in table.column_names])


def filled(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


BAD_TABLES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a column twice": (lambda table: renamed(table, "reason", "status"), "column"),
    "no key": (lambda table: table.drop_columns("status"), "has no column status"),
    "a key of another type": (lambda table: filled(table, "steps", pa.array(["a", "b"])), "steps: is of type string"),
    "a nested type": (lambda table: filled(table, "reason", pa.array([[1], [2]])), "reason: is of type list"),
    "a null in a key": (lambda table: filled(table, "steps", pa.array([None, 1], pa.int64())), "steps: has nulls"),
    "steps below 0": (lambda table: filled(table, "steps", pa.array([-1, 1], pa.int64())), "has numbers below 0"),
    "a status of its own": (lambda table: filled(table, "status", pa.array(["x", "failed"])), "has others than"),
    "text that is none": (
        lambda table: filled(
            table, "reason", pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"a"]).buffers())
        ),
        "has a text that is none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_ledger_that_is_none_is_one_line(store: Store, case: str):
    change, says = BAD_TABLES[case]
    path = store.runs_path(store.blocks()[0])
    pq.write_table(change(read_parquet(path)), path)
    for look in (lambda: read_parquet(path), lambda: Store(store.path).runs_table()):
        with pytest.raises(StoreError) as refused:
            look()
        assert says in str(refused.value)
        assert str(refused.value).isprintable()


def test_curves_that_are_none_are_one_line(store: Store):
    path = store.metrics_path(store.blocks()[0])
    good = read_parquet(path)
    for bad in (good.drop_columns("step"), renamed(good, "loss", "accuracy"), filled(good, "step", good["loss"])):
        pq.write_table(bad, path)
        with pytest.raises(StoreError, match="eureka doctor"):
            read_parquet(path)
        with pytest.raises(StoreError, match="eureka doctor"):
            read_schema(path)


def test_tables_that_do_not_go_together_are_one_line(store: Store):
    store.commit([row("cc00") | {"optim.lr": 1.0}], [curve_of("cc00")], types=TYPES)
    path = store.runs_path(store.blocks()[1])
    pq.write_table(filled(read_parquet(path), "optim.lr", pa.array([pa.scalar(b"x").as_py()], pa.binary())), path)
    with pytest.raises(StoreError):
        Store(store.path).runs_table()


def test_message_of_an_error_is_printable():
    assert str(AnalysisError("a\nb\x1b[31mc")) == r"a\nb\x1b[31mc"
