"""Every changed byte of every kind of file is found; other readers open the files; old files stay readable."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger import TYPES, curve_of, row

from analysis import checksums, files, frames, vouched
from analysis.appended import Appended, check_appended, sum_path
from analysis.errors import StoreError
from analysis.files import read_arrays, read_json, read_parquet, read_schema, write_arrays, write_json, write_parquet
from analysis.store import Store

CURVES = pa.concat_tables([curve_of(run) for run in "abc"]).add_column(1, "block", pa.repeat("k", 60))
RECORD = {"name": "s", "runs": ["a", "b"], "yaml": 'checksum: "no"\n', "x": 0.1}


def parquet(path: Path) -> None:
    write_parquet(path, CURVES)


def ledger(path: Path) -> None:
    write_parquet(path, pa.table({"run_id": ["a", "b"], "steps": [20, 20]}))


def arrays(path: Path) -> None:
    write_arrays(path, {"a/step": np.array(3), "a/row": np.arange(9.0)})


def record(path: Path) -> None:
    write_json(path, RECORD, indent=1)


def appended(path: Path) -> None:
    file = Appended(path)
    for number in range(3):
        path.write_bytes((path.read_bytes() if number else b"") + b'{"op_code": %d}\n' % number)
        file.grown()


def all_arrays(path: Path) -> dict[str, np.ndarray]:
    with read_arrays(path) as found:
        return {name: found[name] for name in found.files}


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "metrics.parquet": (parquet, read_parquet),
    "runs.parquet": (ledger, read_parquet),
    "state.npz": (arrays, all_arrays),
    "sweep.json": (record, read_json),
    "study.journal": (appended, check_appended),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[Path], object]]:
    write, read = KINDS[request.param]
    path = tmp_path / request.param
    write(path)
    read(path)
    return path, read


def places(size: int) -> list[int]:
    """All near both ends, some between; `test_corruption.py` has more of them."""
    return sorted({*range(min(size, 24)), *range(max(0, size - 48), size), *range(0, size, max(1, size // 300))})


def test_any_changed_byte_is_found(kind: tuple[Path, Callable[[Path], object]]) -> None:
    path, read = kind
    whole, rng = path.read_bytes(), random.Random(1)
    for at in places(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
        with pytest.raises(StoreError):
            read(path)


def test_any_lost_tail_is_found(kind: tuple[Path, Callable[[Path], object]]) -> None:
    path, read = kind
    whole = path.read_bytes()
    for length in places(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            read(path)


def test_bytes_behind_the_end_are_found(kind: tuple[Path, Callable[[Path], object]]) -> None:
    path, read = kind
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    if path.suffix == ".journal":  # it may grow
        assert read(path)
    else:
        with pytest.raises(StoreError):
            read(path)


def test_a_changed_sum_of_a_journal_is_found(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    appended(path)
    whole = sum_path(path).read_bytes()
    for at in range(len(whole)):
        sum_path(path).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StoreError, match=r"study\.journal\.sum: not readable"):
            check_appended(path)


def test_a_journal_may_have_grown_behind_its_sum(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    appended(path)
    with path.open("ab") as handle:
        handle.write(b'{"op_code": 9}\n')
    assert check_appended(path)
    Appended(path).grown()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="its last 1 bytes are missing"):
        check_appended(path)


def test_files_of_before_checksums_are_read(tmp_path: Path) -> None:
    pq.write_table(CURVES, tmp_path / "old.parquet")
    np.savez(tmp_path / "old.npz", **{"a/step": np.array(3)})
    (tmp_path / "old.json").write_text(json.dumps(RECORD, indent=1))
    (tmp_path / "study.journal").write_text("{}\n")
    assert read_parquet(tmp_path / "old.parquet").equals(CURVES)
    assert all_arrays(tmp_path / "old.npz")["a/step"] == 3
    assert read_json(tmp_path / "old.json") == RECORD
    assert not check_appended(tmp_path / "study.journal")


def test_other_readers_open_what_has_checksums(tmp_path: Path) -> None:
    for name in ("metrics.parquet", "state.npz", "sweep.json"):
        KINDS[name][0](tmp_path / name)
    path = tmp_path / "metrics.parquet"
    losses = CURVES["loss"].to_pylist()
    assert pq.ParquetFile(path, page_checksum_verification=True).read()["loss"].to_pylist() == losses
    assert pl.read_parquet(path)["loss"].to_list() == losses
    assert [row[0] for row in duckdb.sql(f"SELECT loss FROM read_parquet('{path}')").fetchall()] == losses
    assert np.load(tmp_path / "state.npz")["a/row"].sum() == 36
    assert json.loads((tmp_path / "sweep.json").read_text())["runs"] == ["a", "b"]


def test_the_checksum_itself_is_not_handed_on(tmp_path: Path) -> None:
    KINDS["metrics.parquet"][0](tmp_path / "m.parquet")
    assert read_parquet(tmp_path / "m.parquet").schema.metadata == CURVES.schema.metadata
    assert read_json_of(RECORD) == RECORD


def read_json_of(given: dict[str, object]) -> dict[str, object]:
    return checksums.parse_json(checksums.json_bytes(given))[0]


def test_a_record_with_both_marks_hit_is_no_old_one() -> None:
    whole = checksums.json_bytes({"schema_version": 1})
    hit = whole.replace(b'"checksum"', b'"chdcksum"').replace(checksums.WORD.encode(), b"crc32-oF")
    with pytest.raises(checksums.Damaged, match="its checksum is damaged"):
        checksums.parse_json(hit)


def test_an_empty_record_and_an_empty_archive_have_checksums(tmp_path: Path) -> None:
    assert checksums.parse_json(checksums.json_bytes({})) == ({}, True)
    write_arrays(tmp_path / "none.npz", {})
    with (tmp_path / "none.npz").open("rb") as handle:
        assert checksums.check_npz(handle)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vouched, "SMALL", 0)
    monkeypatch.setattr(files, "GROUP_ROWS", 25)
    vouched.forget_checked()


@pytest.mark.usefixtures("large")
def test_of_a_large_file_the_columns_that_are_read_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    parquet(path)
    chunk = pq.read_metadata(path).row_group(1).column(CURVES.schema.get_field_index("loss"))
    whole = path.read_bytes()
    at = chunk.data_page_offset + chunk.total_compressed_size - 1
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert read_parquet(path, columns=["run_id", "step"]).num_rows == 60
    assert read_schema(path).names == CURVES.schema.names
    for columns in (None, ["loss"]):
        with pytest.raises(StoreError, match="checksums differ"):
            read_parquet(path, columns=columns)


@pytest.mark.usefixtures("large")
def test_a_lost_middle_is_found_by_who_reads_only_the_footer(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    parquet(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:512] + whole[1024:])
    with pytest.raises(StoreError, match="its length is not what was written"):
        read_schema(path)


@pytest.mark.usefixtures("large")
def test_a_large_file_is_checked_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, compared = tmp_path / "m.parquet", list[int]()
    parquet(path)
    check = checksums.check_parts
    monkeypatch.setattr(
        checksums, "check_parts", lambda *args, wanted: (compared.append(len(wanted)), check(*args, wanted=wanted))
    )
    groups, columns = 3, len(CURVES.schema)
    for _ in range(2):
        read_parquet(path, columns=["loss"])
        read_parquet(path)
    parquet(path)
    read_parquet(path)
    assert compared == [groups, groups * (columns - 1), 0, 0, groups * columns]


def test_a_query_in_polars_reads_no_damaged_curve(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    store.commit([row(run) for run in "ab"], [curve_of(run) for run in "ab"], types=TYPES)
    path = Path(store.metrics_paths()[0])
    whole, query = path.read_bytes(), frames.metrics(store).filter(pl.col("loss") > 0).select("step")
    expected = query.collect()
    for at in random.Random(2).sample(range(len(whole)), 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(StoreError, match="not readable"):
            frames.metrics(store).filter(pl.col("loss") > 0).select("step").collect()
    path.write_bytes(whole)
    assert query.collect().equals(expected)


def test_a_damaged_stored_digest_is_made_again_from_its_curves(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    store.commit([row("a")], [curve_of("a")], types=TYPES)
    expected, path = frames.digest(store), store.digest_path(store.blocks()[0])
    whole = path.read_bytes()
    for at in random.Random(3).sample(range(len(whole)), 100):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :])
        assert frames.digest(store).equals(expected)


@pytest.mark.parametrize("name", ["metrics.parquet", "runs.parquet", "state.npz", "sweep.json"])
def test_zeros_over_the_whole_checksum_do_not_make_a_file_an_old_one(tmp_path: Path, name: str) -> None:
    write, read = KINDS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    at = whole.rindex(checksums.WORD.encode())
    for length in (64, 512):
        for start in range(max(0, at - length), min(at + 4, len(whole))):
            path.write_bytes(whole[:start] + bytes(len(whole[start : start + length])) + whole[start + length :])
            with pytest.raises(StoreError, match="not readable"):
                read(path)


def test_an_archive_that_only_lost_its_checksum_is_damaged() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(3))
    checksums.seal_npz(buffer)
    bare = buffer.getvalue()[: -len(f"{checksums.WORD} 00000000")]
    with pytest.raises(checksums.Damaged, match="end is missing"):
        checksums.check_npz(io.BytesIO(bare))
    assert not checksums.check_npz(io.BytesIO(bare[:-2] + struct.pack("<H", 0)))
