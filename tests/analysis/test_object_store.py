"""What the store promises in a bucket: all that it promises in a folder, without a lock that could be lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from buckets import KEYS, THERE, Gate, answer, bucket_server, environment, through_gate
from ledger import TYPES, curve_of, row

import analysis.places.bucket
import analysis.places.object_lock
import analysis.places.object_path
from analysis import frames
from analysis.errors import StoreError
from analysis.integrity.invariants import examine
from analysis.integrity.mend import mend
from analysis.places.bucket import Bucket, bucket_of
from analysis.places.object_lock import LEASE_S, Lock
from analysis.places.object_log import WHOLE_EVERY
from analysis.places.object_path import ObjectPath, forget_copies
from analysis.places.place import is_there
from analysis.schema import PROVENANCE
from analysis.store import Store
from analysis.upkeep import check, compact


class Killed(BaseException):
    """As abrupt as kill -9: nothing of ours catches it."""


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with bucket_server() as port:
        yield port


@pytest.fixture
def gate(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with through_gate(server, monkeypatch) as gate:
        yield gate


@pytest.fixture
def address(gate: Gate, request: pytest.FixtureRequest) -> str:
    return f"s3://bucket/{abs(hash(request.node.name))}/a store"


@pytest.fixture
def store(address: str) -> Store:
    return Store.create(address)


def commit(store: Store, *runs: str) -> list[str]:
    return store.commit([row(run) for run in runs], [curve_of(run) for run in runs], types=TYPES)


def rows_of(store: Store) -> dict[str, int]:
    """METRICS rows by run, as the store's own readers see them."""
    found = frames.metrics(store).collect()
    assert not found.select("run_id", "step").is_duplicated().any()
    return dict(found.group_by("run_id").len().iter_rows())


def plain(store: Store) -> list[pa.Table]:
    runs = store.runs_table().drop_columns(list(PROVENANCE)).sort_by("run_id")
    return [runs, frames.metrics(store).drop("block").sort("run_id", "step").collect().to_arrow(), frames.digest(store)]


def test_tables_in_a_bucket_are_those_in_a_folder(store: Store, tmp_path: Path) -> None:
    folder = Store.create(tmp_path / "store")
    for one in (store, folder):
        commit(one, "a", "b")
        one.commit([row("c", status="failed"), row("d")], [curve_of("d")], types=TYPES)
        compact(one)
        commit(one, "e")
    for here, there in zip(plain(folder), plain(store), strict=True):
        assert here.equals(there)
    assert check(store) == []


def test_copies_that_were_cleared_away_are_made_again(store: Store) -> None:
    store.commit([row("a")], [curve_of("a")], types=TYPES)
    before = store.metrics_paths()
    shutil.rmtree(Path(before[0]).parents[1])
    assert store.statuses() == {"a": "finished"}
    (again,) = store.metrics_paths()
    assert again not in before
    assert Path(again).exists()
    forget_copies()
    assert not Path(again).exists()
    assert len(store.runs_table()) == 1


def test_any_parquet_reader_can_open_the_tables(store: Store, gate: Gate) -> None:
    commit(store, "a", "b")
    options = {f"aws_{key}": value for key, value in {
        "access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"],
        "region": "us-east-1", "endpoint_url": f"http://127.0.0.1:{gate.port}", "allow_http": "true",
    }.items()}  # fmt: skip
    paths = [str(store.metrics_path(block)) for block in store.blocks()]
    assert pl.read_parquet(paths, storage_options=options)["run_id"].n_unique() == 2


def test_a_writer_killed_between_any_two_puts_leaves_all_or_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store, "first")
    moments = ["put metrics", "put digests", "put runs", "put_new log"]
    for n, moment in enumerate(moments):
        with monkeypatch.context() as patch:
            _die_after(patch, moment)
            with pytest.raises(Killed):
                commit(Store(store.path), f"a{n}", f"b{n}")
        later = Store(store.path)
        is_there = moment == "put_new log"
        assert (f"a{n}" in later.statuses(), f"b{n}" in later.statuses()) == (is_there, is_there)
        assert set(rows_of(later)) == set(frames.digest(later)["run_id"]) == set(later.statuses())
        assert set(commit(later, f"a{n}", f"b{n}", f"c{n}")) == {f"a{n}", f"b{n}", f"c{n}"} - set(
            [f"a{n}", f"b{n}"] if is_there else []
        )
        assert check(later) == []
    last = Store(store.path)
    assert rows_of(last) == dict.fromkeys(last.statuses(), 20)
    assert len(last.statuses()) == 13


def test_a_merge_killed_at_any_request_loses_and_doubles_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, "a", "b")
    commit(store, "c")
    before = plain(store)
    for moment in ["put runs", "put_new log", "delete runs", "delete digests"]:
        with monkeypatch.context() as patch:
            _die_after(patch, moment)
            with pytest.raises(Killed):
                compact(Store(store.path))
        later = Store(store.path)
        assert all(here.equals(there) for here, there in zip(before, plain(later), strict=True)), moment
        assert check(later) == []
        commit(store, moment.replace(" ", "-"))  # so that there is something to merge again
        before = plain(store)


def _die_after(patch: pytest.MonkeyPatch, moment: str) -> None:
    """Let a verb on a part of the store be the last thing that a process does."""
    verb, _, part = moment.partition(" ")
    real = getattr(Bucket, verb)

    def dying(self: Bucket, key: str, *data: bytes) -> object:
        result = real(self, key, *data)
        if key.startswith(f"{part}/"):
            raise Killed
        return result

    patch.setattr(Bucket, verb, dying)


def _commit_all(address: str, seed: int, settings: dict[str, str]) -> None:
    os.environ.update(settings)
    store = Store(address)
    for run in np.random.default_rng(seed).permutation([f"run{i:02d}" for i in range(8)]):
        commit(store, str(run))


def test_writers_at_the_same_time_never_double_a_run(store: Store, server: int) -> None:
    context = multiprocessing.get_context("spawn")
    args = [(str(store.path), seed, environment(server)) for seed in range(2)]
    writers = [context.Process(target=_commit_all, args=one) for one in args]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        compact(Store(store.path))  # and somebody merges meanwhile
        time.sleep(0.2)
    assert [writer.exitcode for writer in writers] == [0, 0]
    last = Store(store.path)
    assert rows_of(last) == {f"run{i:02d}": 20 for i in range(8)}
    assert last.runs_table().num_rows == 8
    assert check(last) == []


def test_a_writer_that_slept_through_another_commit_looks_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper, put, slept = Store(store.path), Bucket.put, list[str]()

    def sleeping(self: Bucket, key: str, data: bytes) -> None:
        put(self, key, data)
        if key.startswith("runs/") and not slept:
            slept.append(key)
            commit(store, "a")  # while the other has put its block, and not yet said so

    monkeypatch.setattr(Bucket, "put", sleeping)
    assert commit(sleeper, "a", "b") == ["b"]
    assert rows_of(sleeper) == {"a": 20, "b": 20}
    assert not ObjectPath(bucket_of(str(store.path)), slept[0]).exists()
    assert check(sleeper) == []


def test_a_merge_goes_through_although_others_commit_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, "a")
    commit(store, "b")
    put, busy = Bucket.put, list[str]()

    def interrupted(self: Bucket, key: str, data: bytes) -> None:
        put(self, key, data)
        if key.startswith("metrics/") and len(busy) < 2:
            busy.append(key)
            commit(Store(store.path), f"other{len(busy)}")

    monkeypatch.setattr(Bucket, "put", interrupted)
    assert compact(store).rows == 40
    assert len(busy) == 2
    assert rows_of(Store(store.path)) == dict.fromkeys(["a", "b", "other1", "other2"], 20)


@pytest.mark.parametrize("does", ["read", "commit"])
def test_who_meets_a_merge_follows_it(store: Store, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    commit(store, "a")
    commit(store, "b")
    later, read, merged = Store(store.path), Bucket.read, list[str]()

    def interrupted(self: Bucket, key: str) -> bytes:
        if key.startswith("runs/") and not merged:
            merged.append(key)
            compact(store)  # between the log and what it names
            analysis.places.object_path._made_copies.cache_clear()  # as in a process of its own
        return read(self, key)

    analysis.places.object_path._made_copies.cache_clear()
    monkeypatch.setattr(Bucket, "read", interrupted)
    if does == "read":
        assert later.runs_table().num_rows == 2
    else:
        assert commit(later, "a", "c") == ["c"]
    assert merged


def test_who_lost_its_licence_before_a_fence_commits_nothing(store: Store) -> None:
    store.save_sweep({"name": "s", "runs": []})
    record = {"members": [], "width": 1, "device": "cpu", "checkpoint_s": 1.0, "resumes": False}
    store.save_cohort("s", "k", record)
    worker, looks = Store(store.path), list[bool]()

    def licence() -> None:
        looks.append(True)
        worker.cohort("s", "k")
        if len(looks) == 1:  # it was valid a moment ago
            with store.locked():
                store.drop_attempts("s")

    with pytest.raises(StoreError):
        worker.commit([row("a")], [curve_of("a")], types=TYPES, may=licence)
    assert len(looks) == 2
    assert Store(store.path).statuses() == {}


def test_an_answer_that_was_lost_does_not_double_a_commit(store: Store, gate: Gate) -> None:
    gate.swallows += [r"PUT .*/metrics/", r"PUT .*/runs/", r"PUT .*/log/", r"PUT .*/log/"]
    assert commit(store, "a") == ["a"]
    assert gate.swallows == []
    assert rows_of(Store(store.path)) == {"a": 20}
    assert check(store) == []


def test_throttling_errors_and_cut_connections_cost_waiting_alone(store: Store, gate: Gate) -> None:
    gate.answers += [answer(503, "SlowDown"), answer(500, "InternalError"), b"", answer(429, "TooManyRequests"), b""]
    assert commit(store, "a") == ["a"]
    assert gate.answers == []
    assert rows_of(Store(store.path)) == {"a": 20}


def test_a_gateway_that_is_away_is_waited_for(store: Store, gate: Gate) -> None:
    import threading

    gate.shut()
    back = threading.Timer(1.0, gate.reopen)
    back.start()
    assert commit(store, "a") == ["a"]
    back.join()
    assert rows_of(Store(store.path)) == {"a": 20}


@pytest.mark.skipif(THERE in os.environ, reason="a real gateway signs the header that is dropped")
def test_a_gateway_that_puts_over_what_is_there_is_refused(address: str, gate: Gate) -> None:
    gate.drops = b"if-none-match"
    with pytest.raises(StoreError, match=r"If-None-Match.*use a newer gateway") as refusal:
        Store.create(address)
    assert "\n" not in str(refusal.value)


def test_a_strangers_prefix_is_neither_read_nor_written(address: str) -> None:
    bucket_of(address).put("thesis.tex", b"...")
    with pytest.raises(StoreError, match=r"not a store, and not empty \(thesis.tex …\)"):
        Store.create(address)
    with pytest.raises(StoreError, match="no store here"):
        Store(address)
    assert [one.key for one in ObjectPath(bucket_of(address)).below()] == ["thesis.tex"]


def test_a_store_that_was_killed_while_it_was_made_is_made_by_the_next(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _die_after(patch, "put_new log")
        with pytest.raises(Killed):
            Store.create(address)
    assert not is_there(address)
    assert commit(Store.create(address), "a") == ["a"]
    assert is_there(address)


def test_the_log_is_read_from_its_last_whole_entry(store: Store, gate: Gate) -> None:
    for _ in range(WHOLE_EVERY + 3):
        store.place.fence()
    commit(store, "a")
    gate.seen.clear()
    assert Store(store.path).statuses() == {"a": "finished"}
    assert sum("/log/" in line for line in gate.seen) < 10


def test_a_damaged_entry_of_the_log_is_one_line(store: Store) -> None:
    commit(store, "a")
    path = store.path / "log" / "00000001.json"
    assert isinstance(path, ObjectPath)
    path.write_bytes(path.read_bytes().replace(b"join", b"jion"))
    with pytest.raises(StoreError, match=r"log/00000001\.json: not readable") as refusal:
        Store(store.path)
    assert "\n" not in str(refusal.value)


def test_failed_rows_can_be_taken_back(store: Store) -> None:
    store.commit([row("a"), row("b", status="failed")], [curve_of("a")], types=TYPES)
    store.forget_failed(["a", "b"])
    assert Store(store.path).statuses() == {"a": "finished"}
    assert rows_of(store) == {"a": 20}
    assert commit(store, "b") == ["b"]
    assert check(store) == []


def test_states_snapshots_probes_and_records_come_back_as_they_were(store: Store) -> None:
    state = {"step": np.array(7), "row": np.arange(5, dtype=np.float32)}
    store.checkpoints.save("k1", {"a": state, "b": state})
    store.checkpoints.save("k2", {"a": state | {"step": np.array(9)}})
    places = Store(store.path).checkpoints.furthest()
    assert {run: step for run, (_, step) in places.items()} == {"a": 9, "b": 7}
    back = store.checkpoints.load("b", places["b"][0])
    assert back is not None
    assert np.array_equal(back["row"], state["row"])
    store.checkpoints.save("k1", {"b": state | {"step": np.array(8)}})
    assert store.checkpoints.furthest()["b"][1] == 8
    store.checkpoints.drop("k1")
    assert set(store.checkpoints.furthest()) == {"a"}
    store.snapshots.save("a", 3, {"w": np.ones(4)})
    assert store.snapshots.there() == [("a", 3)]
    assert np.array_equal(store.snapshots.load("a", 3)["w"], np.ones(4))
    with pytest.raises(StoreError, match="there are: 3"):
        store.snapshots.load("a", 4)
    store.save_sweep({"name": "temperature", "runs": ["a"], "yaml": "a: 1"})
    assert store.sweeps() == ["temperature"]
    assert store.sweep("temperature")["runs"] == ["a"]
    with pytest.raises(StoreError, match="no sweep named 'temprature'; there are: temperature"):
        store.sweep("temprature")


def test_what_a_killed_writer_left_goes_after_an_hour(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _die_after(patch, "put runs")
        with pytest.raises(Killed):
            commit(store, "a")
    left = [one.key for one in store.path.below() if one.key.startswith(("runs/", "metrics/", "digests/"))]
    later = Store(store.path)
    compact(later)
    assert [one.key for one in store.path.below() if one.key in left] == left  # somebody may still be at it
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601.0)
    assert len(later.place.leftovers(older_s=3600.0)) == 3
    compact(later)
    assert [one.key for one in store.path.below() if one.key in left] == []
    assert check(later) == []


SECRET = "s3cr3t-key"


def says(status: int, code: str) -> Callable[[Gate], object]:
    """A gateway that gives nothing but one answer."""
    return lambda gate: gate.answers.extend([answer(status, code)] * 999)


WRONG: list[tuple[str, Callable[[Gate], object], str]] = [
    ("s3://no-such-bucket/x", lambda gate: None, "there is no bucket 'no-such-bucket'; make it"),
    ("s3://bucket/x", says(403, "AccessDenied"), "access to 'bucket' is denied; give"),
    ("s3://bucket/x", says(400, "ExpiredToken"), "have expired; get new ones"),
    ("s3://bucket/x", says(403, "InvalidAccessKeyId"), "not valid there"),
    ("s3://bucket/x", says(403, "RequestTimeTooSkewed"), "clock is wrong"),
    ("s3://bucket/x", says(301, "PermanentRedirect"), "AWS_REGION"),
    ("s3://bucket/x", says(503, "SlowDown"), "answers 503 SlowDown, in . s"),
    ("s3://bucket/x", lambda gate: gate.shut(), "in . s of trying; check the network, and AWS_ENDPOINT_URL"),
    (f"s3://{SECRET}:y@bucket/x", lambda gate: None, "never from an address"),
    (f"s3://bucket/x?secret={SECRET}", lambda gate: None, "never from an address"),
    ("ftp://bucket/x", lambda gate: None, "expected a path, s3://BUCKET/PREFIX"),
    ("s3:///x", lambda gate: None, "expected a path, s3://BUCKET/PREFIX"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "harm", "says"), WRONG, ids=[f"{n}-{one[2][:20]}" for n, one in enumerate(WRONG)])
def test_what_is_wrong_is_one_line_with_the_way_out(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, address: str, harm: Callable[[Gate], object], says: str
) -> None:
    if "no-such" not in address:  # that one the gateway itself has to say
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(analysis.places.bucket, "FIRST_S", 1.0)
    for opening in (Store, Store.create):
        bucket_of.cache_clear()
        harm(gate)
        with pytest.raises(StoreError, match=says) as refusal:
            opening(address)
        assert "\n" not in str(refusal.value)
        assert SECRET not in str(refusal.value)
        assert "hush" not in str(refusal.value)  # what the gateway's text says may be anything


def test_no_credentials_is_one_line(gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{gate.port}")
    monkeypatch.setattr(analysis.places.bucket, "FIRST_S", 0.5)
    monkeypatch.setattr(analysis.places.bucket, "REQUEST_S", 1.0)
    with pytest.raises(StoreError) as refusal:
        Store("s3://bucket/x")
    assert "\n" not in str(refusal.value)


def test_credentials_of_a_profile_open_a_store(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit(store, "a")
    profile = tmp_path / "credentials"
    key, secret = KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]
    profile.write_text(f"[lab]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    bucket_of.cache_clear()
    assert Store(store.path).statuses() == {"a": "finished"}
    monkeypatch.setenv("AWS_PROFILE", "other")
    bucket_of.cache_clear()
    with pytest.raises(StoreError, match=r"profile.*other.*could not be found"):
        Store(store.path)


def test_without_obstore_the_way_out_is_named(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(StoreError, match=r"pip install 'eureka\[object\]'"):
        Store("s3://bucket/x")


def test_a_store_in_a_folder_imports_nothing_of_buckets(tmp_path: Path) -> None:
    code = f"import sys; from analysis.store import Store; Store.create({str(tmp_path / 's')!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"obstore", "boto3", "analysis.places.bucket", "analysis.places.object_place"})
    assert "analysis.places.local_place" in loaded


# -- the lock, on which nothing that must be right rests ---------------------------------------


def test_a_lock_is_held_by_one_and_handed_on(store: Store) -> None:
    folder = store.path / "lock"
    assert isinstance(folder, ObjectPath)
    one, other = Lock(folder), Lock(folder)
    assert one.take()
    assert not other.take()
    assert other.holder.startswith(f"process {os.getpid()} on ")
    one.free()
    assert other.take()
    assert not one.take()


def test_a_silent_holders_lock_runs_out_and_a_beating_ones_does_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis.places.object_lock, "_is_gone", lambda found: False)
    folder, now = store.path / "lock", [0.0]
    assert isinstance(folder, ObjectPath)
    silent, other = Lock(folder, clock=lambda: now[0]), Lock(folder, clock=lambda: now[0])
    assert silent.take()
    for _ in range(3):
        assert not other.take()
        assert silent.beat()
        now[0] += LEASE_S + 1.0
    assert not other.take()  # that was a beat ago, by the clock of who watches
    now[0] += LEASE_S + 1.0
    assert other.take()
    assert not silent.beat()
    silent.free()  # of a lock that is another's by now
    assert not silent.take()


def test_the_lock_of_a_process_that_has_ended_here_is_free_at_once(store: Store) -> None:
    folder = store.path / "lock"
    assert isinstance(folder, ObjectPath)
    code = (
        "from analysis.places.bucket import bucket_of; from analysis.places.object_path import ObjectPath;"
        "from analysis.places.object_lock import Lock;"
        f"assert Lock(ObjectPath(bucket_of({str(store.path)!r})) / 'lock').take()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert Lock(folder).take()


def test_the_doctor_mends_a_bucket_too(store: Store) -> None:
    commit(store, "a", "b")
    commit(store, "c")
    first, second = store.blocks()
    for path in (store.metrics_path(first), store.digest_path(second)):
        data = path.read_bytes()
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    found = examine(store).findings
    assert [one.remedy for one in found] == ["retrain", "digest"]
    said = mend(store, found)
    assert [line.partition(" ")[0] for line in said] == ["took", "made"]
    again = Store(store.path)
    assert check(again) == []
    assert set(again.statuses()) == {"c"}
    assert len(again.path.glob("damaged/*/metrics/*")) == 1
    assert commit(again, "a", "b", "c") == ["a", "b"]
